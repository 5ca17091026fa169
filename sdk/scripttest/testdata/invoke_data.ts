import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  for (const data of ["text", new Uint8Array([255]), null]) {
    await ctx.invoke("bill", data);
  }
}
