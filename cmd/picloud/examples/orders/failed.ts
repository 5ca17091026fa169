import { type Context } from "picloud";

// Notes with an order that its charge was given up, and why. What may succeed another time is left to people.
export default async function handle(ctx: Context) {
  const letter = ctx.request.json<{ payload: string; reason: string; error: string }>();
  const { order: id } = JSON.parse(letter.payload) as { order: string };
  const orders = ctx.kv("orders");
  const { value: order, version } = await orders.entry<Record<string, unknown>>(id);
  if (order === undefined || order["state"] === "paid") return;
  await orders.set(id, { ...order, state: "failed", why: `${letter.reason}: ${letter.error.split("\n")[0]}` }, { ifVersion: version });
  if (letter.reason === "exhausted") throw new Error("somebody has to put it back"); // a handler that fails leaves the dead letter open
}
