import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const none = await ctx.http.get("https://example.com/a");
  const made = await ctx.http.post("https://example.com/b", { n: 1 });
  const put = await ctx.http.put("https://example.com/b", "text");
  const found = await ctx.http.request("https://example.com/c", {
    method: "PROPFIND", headers: { "X-A": ["1"] }, bodyBase64: "/w==", timeoutMs: 1500,
  });
  return [
    none.status, none.headers["X-B"]?.[1], none.headers["X_c"]?.[0], none.body, JSON.parse(String(made.body)).id, put.status,
    found.body.length,
  ];
}
