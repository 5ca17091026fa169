import { url } from "picloud";

export default async function handle() {
  const u = url.parse("https://ada:s%20x@example.com:8443/a%20b/c?q=1&q=2#top");
  const fields = url.parseQuery("q=a+b&q=%C3%BC");
  return [
    url.encode("a b&c/ü~"), url.decode("a%20b%26c%2F%C3%BC~"),
    [u.scheme, u.user, u.password, u.hostname, u.port, u.path, u.query, u.fragment],
    url.resolve("https://example.com/a/b?x", "../c"), url.query({ b: ["1", "2"], a: "x y" }), fields["q"],
  ];
}
