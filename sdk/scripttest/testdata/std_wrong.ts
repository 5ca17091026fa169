import { base64 } from "picloud";

export default async function handle() {
  return base64.decode("Zm9v*m9v").length;
}
