import { type Context } from "picloud";

export default function handle(ctx: Context) {
  return down(1);
}

function down(n: number): number {
  return down(n + 1) + 1;
}
