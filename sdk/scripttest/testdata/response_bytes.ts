import { Response, type Context } from "picloud";

export default function handle(ctx: Context) {
  return new Response(new Uint8Array([0, 255, 1]));
}
