import { Response, type Context } from "picloud";

// Makes short addresses (POST /links), leads from them to the long ones (GET /l/{code}), and says how often it did
// (GET /links/{code}).
export default async function handle(ctx: Context) {
  const links = ctx.kv("links"), visits = ctx.kv("visits");
  const code = ctx.request.param("code");
  if (code === "") return await shorten(ctx);
  const long = await links.get<string>(code);
  if (long === undefined) return Response.json({ error: "there is no such link" }, { status: 404 });
  if (ctx.request.path === `/l/${code}`) {
    await visits.increment(code);
    return new Response(undefined, { status: 302, headers: { Location: long } });
  }
  return { url: long, visits: await visits.get<number>(code) ?? 0 };
}

async function shorten(ctx: Context) {
  const { url } = ctx.request.json<{ url?: string }>();
  if (!/^https?:\/\/[^/]+/.test(url ?? "")) {
    return Response.json({ error: "url is no address such as https://example.com" }, { status: 400 });
  }
  const code = crypto.randomUUID().slice(0, 8);
  await ctx.kv("links").set(code, url, { ifVersion: 0 }); // somebody else's code is never taken over
  return Response.json({ short: `/l/${code}`, code }, { status: 201 });
}
