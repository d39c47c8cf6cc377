// node gizmosql.mjs '{"port": 8815, "username": ..., "password": ..., "calls": [["execute", "SELECT 1"], ...]}'
// Connects with @gizmodata/gizmosql-client, makes each call, and prints what they answered as a JSON list.
import { FlightSQLClient } from "@gizmodata/gizmosql-client";
import { print } from "./print.mjs";

const { calls, ...config } = JSON.parse(process.argv[2]);
const client = new FlightSQLClient({ host: "127.0.0.1", plaintext: true, ...config });
await client.connect();
const answers = [];
for (const [method, ...args] of calls) {
  const answer = await client[method](...args);
  if (answer instanceof Map) answers.push(Object.fromEntries(answer));
  else answers.push(method === "execute" ? answer.toArray().map((row) => row.toJSON()) : answer);
}
await client.close();
await print(answers);
