import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const mail = ctx.queue("mail");
  const depth = await mail.depth(), { purged, more } = await mail.purge();
  return [depth.waiting, depth.running, depth.oldestAgeMs, purged, more];
}
