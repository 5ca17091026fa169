import { hash, hex } from "picloud";

export default async function handle() {
  const key = "Jefe", data = "what do ya want for nothing?";
  return [
    hex.encode(hash.sha256("abc")), hex.encode(hash.sha512("abc")), hex.encode(hash.sha1("abc")), hex.encode(hash.md5("abc")),
    hex.encode(hash.hmacSha256(key, data)), hex.encode(hash.hmacSha512(key, data)), hex.encode(hash.hmacSha1(key, data)),
    hash.equal("abc", new TextEncoder().encode("abc")), hash.equal("abc", "abd"),
  ];
}
