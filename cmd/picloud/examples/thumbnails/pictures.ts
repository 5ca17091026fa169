import { Response, type Context } from "picloud";

// Pictures are bounded: what a small file says of its size is what memory is taken for.
const maxPixels = 1_000_000;

// Keeps a picture (POST /pictures), and gives its thumbnail (GET /pictures/{id}/thumbnail).
export default async function handle(ctx: Context) {
  const id = ctx.request.param("id");
  if (id !== "") return await thumbnail(ctx, id);
  const data = ctx.request.body, head = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < 33 || head.getUint32(0) !== 0x89504e47 || head.getUint32(12) !== 0x49484452) {
    return refuse(415, "this is no PNG");
  }
  const width = head.getUint32(16), height = head.getUint32(20);
  if (width * height > maxPixels) return refuse(413, `${width} x ${height} is more than ${maxPixels} pixels`);
  const depth = data[24], color = data[25], interlaced = data[28];
  if (depth !== 8 || color !== 2 && color !== 6 || interlaced !== 0) {
    return refuse(415, "of PNG only RGB and RGBA of 8 bits are read, without interlacing");
  }
  const file = await ctx.files("pictures").create("picture.png", data, { contentType: "image/png" });
  return Response.json({ id: file.id }, { status: 201 });
}

async function thumbnail(ctx: Context, picture: string) {
  const id = await ctx.kv("thumbnails").get<string>(picture);
  const data = id === undefined ? undefined : await ctx.files("thumbnails").get(id);
  if (data === undefined) return refuse(404, "there is no thumbnail, or not yet");
  return new Response(data, { headers: { "Content-Type": "image/png" } });
}

const refuse = (status: number, error: string) => Response.json({ error }, { status });
