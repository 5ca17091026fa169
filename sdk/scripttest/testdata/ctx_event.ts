import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const e = ctx.event;
  return [e.id, e.source, e.type, e.subject, e.time, e.contentType];
}
