import { base64, hex } from "picloud";

export default async function handle() {
  const texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map((text) => base64.encode(text));
  const some = new Uint8Array([251, 255]);
  return [
    texts, base64.encode(some), base64.encode(some, { url: true }), [...base64.decode("+/8=")], [...base64.decode("-_8", { url: true })],
    new TextDecoder().decode(base64.decode("Zm9vYmFy")), hex.encode("foobar"), [...hex.decode("C0ffEE")],
  ];
}
