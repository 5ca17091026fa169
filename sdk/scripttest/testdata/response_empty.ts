import { Response, type Context } from "picloud";

export default function handle(ctx: Context) {
  return new Response(undefined, { status: 304 });
}
