// Prints a value as JSON: integers of 64 bits as numbers where they are safe, else as strings.
export function print(value) {
  console.log(JSON.stringify(value, (_, v) => (typeof v !== "bigint" ? v : Number.isSafeInteger(Number(v)) ? Number(v) : String(v))));
}
