import type { Context } from "picloud";

interface Line {
  item: string;
  count: number;
  price: number;
}

export default function handle(ctx: Context) {
  const { lines } = ctx.request.json<{ lines: Line[] }>();
  lines.sort((a, b) => b.price - a.price);
  let total = 0;
  for (const l of lines) total += l.price * l.count;
  return { lines, total };
}
