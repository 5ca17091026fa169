import { Response, type Context } from "picloud";

export default function handle(ctx: Context) {
  return new Response({ id: 7 }, { status: 201, headers: { location: "/things/7", "X-Two": ["a", "b"] } });
}
