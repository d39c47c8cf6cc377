// Prints a value as JSON, and is done when it has left the process. Integers of 64 bits become numbers where
// they are safe, else strings.
export function print(value) {
  const plain = (_, v) => (typeof v !== "bigint" ? v : Number.isSafeInteger(Number(v)) ? Number(v) : String(v));
  return new Promise((done) => process.stdout.write(JSON.stringify(value, plain) + "\n", done));
}
