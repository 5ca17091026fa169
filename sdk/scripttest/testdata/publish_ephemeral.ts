import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const { deliveries, dropped } = await ctx.pubsub.publishEphemeral("user.typing", { name: "Ada" });
  return [deliveries, dropped];
}
