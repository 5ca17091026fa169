package stdlib

import "time"

// Modules are the modules of the table, in its order, with what they are for.
func Modules() [][2]string {
	return [][2]string{
		{"base64", "Bytes as text, by RFC 4648."},
		{"hex", "Bytes as text in hexadecimal."},
		{"url", "Addresses, and what stands in them."},
		{"hash", "Digests and signatures. They are bytes: hex.encode or base64.encode makes text of them."},
		{"random", "What nobody can foresee."},
		{"csv", "Tables as text, by RFC 4180."},
		{"regex", "Regular expressions of RE2's syntax, of up to 1 KiB and 10,000 steps: x{1000} has a thousand."},
		{"time", "Times and time zones. Layouts are Go's, which show how 2006-01-02 15:04:05 would be written."},
	}
}

// Functions returns the table.
func Functions() []Function {
	data, text := Param{Name: "data", Kind: Data}, Param{Name: "text", Kind: Text}
	alphabet := Param{Name: "url", Kind: Bool, Default: false}
	list := []Function{
		{
			Module: "base64", Name: "encode", Params: []Param{data, alphabet}, Result: Text, TS: "string", Go: "base64.StdEncoding.EncodeToString(data)",
			Says: "Bytes, or the UTF-8 of a text, as base64 with padding; for URLs and file names with - and _, and without padding.", call: base64Encode,
		},
		{
			Module: "base64", Name: "decode", Params: []Param{text, alphabet}, Result: Data, TS: "Uint8Array", Go: "base64.StdEncoding.DecodeString(text)",
			Says: "The bytes of base64, whose padding may be missing. Anything else is an error, white space, too.", call: base64Decode,
		},
		{
			Module: "hex", Name: "encode", Params: []Param{data}, Result: Text, TS: "string", Go: "hex.EncodeToString(data)",
			Says: "Bytes, or the UTF-8 of a text, in lower case.", call: hexEncode,
		},
		{
			Module: "hex", Name: "decode", Params: []Param{text}, Result: Data, TS: "Uint8Array", Go: "hex.DecodeString(text)",
			Says: "The bytes of a text in lower or upper case.", call: hexDecode,
		},
		{
			Module: "url", Name: "encode", Params: []Param{text}, Result: Text, TS: "string", Go: "url.QueryEscape(text)",
			Says: "A text with all but letters, digits and -._~ as %XX. Go's writes a space as +.", call: urlEncode,
		},
		{
			Module: "url", Name: "decode", Params: []Param{text}, Result: Text, TS: "string", Go: "url.PathUnescape(text)",
			Says: "A text with what %XX stands for, which has to be UTF-8.", call: urlDecode,
		},
		{
			Module: "url", Name: "parse", Params: []Param{text}, Result: Object,
			TS: "{ scheme: string; user: string; password: string; host: string; hostname: string; port: string; path: string; query: string; fragment: string }",
			Go: "url.Parse(text)", Says: "The parts of an address of up to 8 KiB, as they are written.", call: urlParse,
		},
		{
			Module: "url", Name: "resolve", Params: []Param{{Name: "base", Kind: Text}, text}, Result: Text, TS: "string", Go: "u.ResolveReference(ref)",
			Says: "The address that another one, such as ../a, stands for on a page.", call: urlResolve,
		},
		{
			Module: "url", Name: "query", Params: []Param{{Name: "fields", Kind: Fields}}, Result: Text, TS: "string", Go: "url.Values.Encode()",
			Says: "Fields, each a text or a list of them, as what stands behind the ? of an address, sorted by their names.", call: urlQuery,
		},
		{
			Module: "url", Name: "parse_query", Params: []Param{text}, Result: Fields, TS: "Record<string, string[]>", Go: "url.ParseQuery(text)",
			Says: "The fields of what stands behind the ?, each a list of texts.", call: urlParseQuery,
		},
	}
	list = append(list, hashes()...)
	list = append(
		list,
		Function{
			Module: "random", Name: "bytes", Params: []Param{{Name: "n", Kind: Number}}, Result: Data, TS: "Uint8Array", Go: "picloud.RandomBytes(n)",
			Says: "So many bytes, up to 64 KiB.", call: randomBytes,
		},
		Function{
			Module: "random", Name: "int", Params: []Param{{Name: "low", Kind: Number}, {Name: "high", Kind: Number}}, Result: Number, TS: "number",
			Go: "rand.IntN(n)", Says: "A whole number from low to high, both included. Go's is from 0 to n - 1.", call: randomInt,
		},
		Function{
			Module: "random", Name: "float", Result: Float, TS: "number", Go: "rand.Float64()",
			Says: "A number from 0 on, below 1.", call: randomFloat,
		},
		Function{
			Module: "random", Name: "uuid", Result: Text, TS: "string", Go: "picloud.UUID()",
			Says: "A UUID of version 4.", call: randomUUID,
		},
	)
	separator := Param{Name: "separator", Kind: Text, Default: ","}
	list = append(
		list,
		Function{
			Module: "csv", Name: "parse", Params: []Param{text, separator}, Result: Rows, TS: "string[][]", Go: "csv.NewReader(r).ReadAll()",
			Says: "Rows of texts, up to 500,000 fields. Empty lines are none.", call: csvParse,
		},
		Function{
			Module: "csv", Name: "format", Params: []Param{{Name: "rows", Kind: Rows}, separator}, Result: Text, TS: "string", Go: "csv.NewWriter(w).WriteAll(rows)",
			Says: "A list of lists of texts, with quotes where they are needed.", call: csvFormat,
		},
	)
	return append(list, append(patterns(), times()...)...)
}

// patterns are for languages that have no regular expressions.
func patterns() []Function {
	pattern, text := Param{Name: "pattern", Kind: Text}, Param{Name: "text", Kind: Text}
	return []Function{
		{
			Module: "regex", Name: "matches", Params: []Param{pattern, text}, Result: Bool, Go: "re.MatchString(text)", JS: "re.test(text)",
			Says: "Whether the pattern is found in a text.", searching: regexMatches,
		},
		{
			Module: "regex", Name: "find", Params: []Param{pattern, text}, Result: Object, Go: "re.FindStringSubmatch(text)", JS: "text.match(re)",
			Says: "What is found first, nothing if there is none; in Starlark a dict of text, start, end, groups (a list) and named (a dict).", searching: regexFind,
		},
		{
			Module: "regex", Name: "find_all", Params: []Param{pattern, text}, Result: List, Go: "re.FindAllStringSubmatch(text, -1)", JS: "text.matchAll(re)",
			Says: "All that is found, one behind the other; in Starlark up to 100,000, the groups counted.", searching: regexFindAll,
		},
		{
			Module: "regex", Name: "replace", Params: []Param{pattern, text, {Name: "with", Kind: Text}}, Result: Text, Go: "re.ReplaceAllString(text, with)",
			JS: "text.replaceAll(re, with)", Says: "The text with another in place of all that is found; $1 or ${name} in that is a group.", searching: regexReplace,
		},
		{
			Module: "regex", Name: "split", Params: []Param{pattern, text}, Result: List, Go: "re.Split(text, -1)", JS: "text.split(re)",
			Says: "The texts between all that is found.", searching: regexSplit,
		},
		{
			Module: "regex", Name: "quote", Params: []Param{text}, Result: Text, Go: "regexp.QuoteMeta(text)",
			Says: "A pattern that finds this text.", searching: regexQuote,
		},
	}
}

// times are for languages that know times, and neither layouts nor zones.
func times() []Function {
	layout, place := Param{Name: "layout", Kind: Text, Default: time.RFC3339}, Param{Name: "zone", Kind: Text, Default: "UTC"}
	return []Function{
		{
			Module: "time", Name: "now", Go: "time.Now()", JS: "new Date()", Starlark: "time.now()",
			Says: "The time.",
		},
		{
			Module: "time", Name: "parse", Params: []Param{{Name: "text", Kind: Text}, layout, place}, Result: Time, TS: "Date", Go: "time.Parse(layout, text)",
			Starlark: "time.parse_time(text, format=, location=)",
			Says:     "The time that a text names, of RFC 3339 or a layout. The zone is for layouts without one.", call: timeParse,
		},
		{
			Module: "time", Name: "format", Params: []Param{{Name: "time", Kind: Time}, layout, place}, Result: Text, TS: "string", Go: "t.In(zone).Format(layout)",
			Starlark: "t.in_location(zone).format(layout)", Says: "A time as text, in the zone of that name, such as Europe/Berlin.", call: timeFormat,
		},
		{
			Module: "time", Name: "duration", Params: []Param{{Name: "text", Kind: Text}}, Result: Float, TS: "number", Go: "time.ParseDuration(text)",
			Starlark: "time.parse_duration(text)", Says: "What a text such as 1h30m stands for; in JavaScript in milliseconds.", call: timeDuration,
		},
	}
}
