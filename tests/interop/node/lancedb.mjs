// node lancedb.mjs '{"host": "127.0.0.1:8815", "username": ..., "password": ..., "queries": [...]}'
// Connects with @lancedb/arrow-flight-sql-client, runs each query, and prints the rows of each as JSON.
import { Client } from "@lancedb/arrow-flight-sql-client";
import { print } from "./print.mjs";

const { queries, ...config } = JSON.parse(process.argv[2]);
const client = await Client.connect(config);
const answers = [];
for (const query of queries) {
  const rows = await (await client.query(query)).collectToObjects();
  answers.push(Array.from(rows, (row) => row.toJSON()));
}
await print(answers);
process.exit(0); // the client has no method that closes its channel
