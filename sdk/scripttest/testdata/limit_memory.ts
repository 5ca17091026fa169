import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const kept: number[][] = [];
  for (;;) kept.push(new Array<number>(1 << 17).fill(1));
}
