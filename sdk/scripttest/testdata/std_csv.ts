import { csv } from "picloud";

export default async function handle() {
  return [
    csv.parse('a,"b ""q"" c",\n\n1;2,"x\ny"\n'), csv.parse("1;2,3", { separator: ";" }),
    csv.format([["a", "b,c", 'd"e', ""], [" f", "g\nh"]]),
  ];
}
