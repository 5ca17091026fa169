export default {
  async fetch(request) {
    if (request.method === "GET") return Response.json({ message: "hello" });
    const { lines } = await request.json();
    lines.sort((a, b) => b.price - a.price);
    let total = 0;
    for (const l of lines) total += l.price * l.count;
    return Response.json({ lines, total });
  },
};
