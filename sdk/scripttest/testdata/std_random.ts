import { random } from "picloud";

export default async function handle() {
  const n = random.int(5, 6), f = random.float(), id = random.uuid();
  return [random.bytes(16).length, n === 5 || n === 6, f >= 0 && f < 1, id.length, id.charAt(14), id !== random.uuid()];
}
