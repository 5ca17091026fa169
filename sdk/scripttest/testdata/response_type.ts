import { Response, type Context } from "picloud";

export default function handle(ctx: Context) {
  return new Response("<p>", { headers: { "content-type": "text/html" } });
}
