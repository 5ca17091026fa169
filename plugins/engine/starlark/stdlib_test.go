package starlark_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/sdk/fault"
)

func TestLibrary(t *testing.T) {
	t.Parallel()
	e := starlark.New()
	for name, c := range map[string]struct{ body, want string }{
		"hash, as the language has it": {`return [hash("a"), type(hash), hex.encode(hash.md5(""))]`, `[97,"module","d41d8cd98f00b204e9800998ecf8427e"]`},
		"numbers":                      {`return [random.int(7, 7), random.int(-(1 << 53), 1 << 53) < 1 << 54, len(random.bytes(0))]`, `[7,true,0]`},
		"tuples":                       {`return [csv.format((("a", "b"), ["c"])), url.query({"a": ("b", "c"), "d": []})]`, `["a,b\nc\n","a=b\u0026a=c"]`},
		"what is found":                {`return regex.find(r"(a)|(?P<other>b)", "xb")`, `{"end":2,"groups":[null,"b"],"named":{"other":"b"},"start":1,"text":"b"}`},
		"zones":                        {`return time.parse_time("2026-07-01 12:00", format = "2006-01-02 15:04", location = "Europe/Berlin").in_location("UTC").format("15:04")`, `"10:00"`},
		"now":                          {`return time.now().format("MST")`, `"UTC"`},
		"a duration":                   {`ctx.sleep(time.millisecond); return 1`, `1`},
		"names of the script's own":    {`url = "mine"; return url`, `"mine"`},
		"retry":                        {"n = []\n    def f():\n        n.append(1)\n        if len(n) < 4: fail('no')\n        return len(n)\n    return ctx.retry(f, attempts = 4, backoff = 0.001)", `4`},
		"retry within": {
			"n = []\n    def f():\n        n.append(1)\n        if len(n) < 5: fail('no')\n        return len(n)\n" +
				"    return ctx.retry(lambda: ctx.retry(f, attempts = 2, backoff = 0.001), attempts = 3, backoff = time.millisecond)",
			`5`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, e, name, "def handle(ctx):\n    "+c.body+"\n")
			a, err := invoke(t.Context(), e, name, "")
			if err != nil || a.body.String() != c.want {
				t.Errorf("%v\n%s\nnot\n%s", err, a.body.String(), c.want)
			}
		})
	}
}

func TestLibraryRefuses(t *testing.T) {
	t.Parallel()
	e := starlark.New()
	for name, c := range map[string]struct{ body, says string }{
		"no base64":       {`base64.decode("*")`, "base64.decode: illegal base64 data at input byte 0"},
		"no text":         {`hex.decode(7)`, "hex.decode: text has to be a text"},
		"no rows":         {`csv.format([["a", 1]])`, "csv.format: rows has to be a list of lists of texts"},
		"no list":         {`csv.format(7)`, "csv.format: rows has to be a list of lists of texts"},
		"rows of text":    {`csv.format(["ab"])`, "csv.format: rows has to be a list of lists of texts"},
		"no fields":       {`url.query({"a": 1})`, "url.query: fields has to be texts, or lists of them, by their names"},
		"names":           {`url.query({1: "a"})`, "url.query: fields has to be"},
		"missing":         {`hash.sha256()`, "hash.sha256: missing argument for data"},
		"unknown":         {`csv.parse("a", comma = ";")`, "csv.parse: unexpected keyword argument"},
		"too many bytes":  {`random.bytes(65537)`, "random.bytes: from 0 to 65536 bytes are given at a time, not 65537"},
		"a large number":  {`random.bytes(1 << 60)`, "random.bytes: n has to be a whole number"},
		"a larger number": {`random.bytes(1 << 100)`, "random.bytes: n has to be a whole number"},
		"a pattern":       {`regex.find("x{1000}" * 30, "")`, "regex.find: the pattern takes more than 10000 steps"},
		"a long pattern":  {`regex.find("x" * 1025, "")`, "regex.find: the pattern has more than 1024 bytes"},
		"many cells":      {`csv.format([[""] * 1000] * 2000)`, "csv.format takes up to 8 MiB"},
		"one large text":  {`csv.format([["x" * (1 << 20)] * 10] * 10)`, "csv.format takes up to 8 MiB"},
		"a large query":   {`url.query({"a": ["x" * (1 << 20)] * 10})`, "url.query takes up to 8 MiB"},
		"large bytes":     {`base64.encode("x" * (8 * 1024 * 1024 + 1))`, "base64.encode takes up to 8 MiB"},
		"attempts":        {`ctx.retry(lambda: 1, attempts = 101)`, "retry: there may be up to 100 attempts, not 101"},
		"attempts below":  {`ctx.retry(lambda: 1, attempts = -1)`, "retry: there may be up to 100 attempts, not -1"},
		"back-off":        {`ctx.retry(lambda: 1, backoff = 3601)`, "retry: the back-off may be up to 1h0m0s"},
		"retry of none":   {`ctx.retry(7)`, "retry: for parameter f: got int, want callable"},
		"no time to live": {`ctx.kv("c").set("k", 1, ttl = float("nan"))`, "set: ttl: got nan, want a number of seconds from 0 on, at most ten years"},
		"a long life":     {`ctx.kv("c").set("k", 1, ttl = 10 * 366 * 24 * 3600 + 1)`, "set: ttl: got 316224001, want a number of seconds"},
		"no sleep":        {`ctx.sleep(float("nan"))`, "sleep: for parameter seconds: got nan"},
		"bytes":           {`ctx.kv("c").set("k", b"x")`, "set: the value cannot be sent: bytes have no form in JSON, base64.encode makes text of them"},
		"bytes inside":    {`json.encode({"a": [b"x"]})`, "json.encode: bytes have no form in JSON"},
		"an hour's wait":  {`ctx.retry(lambda: retry_after("later", 3600))`, "later"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, e, name, "def handle(ctx):\n    return "+c.body+"\n")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := invoke(ctx, e, name, "")
			if f := fault.From(err); f == nil || f.Kind != fault.ScriptError || f.Origin != fault.Script || !strings.Contains(f.Message, c.says) {
				t.Errorf("%+v, not %s", f, c.says)
			}
		})
	}
}

// What the library makes is memory of the run, and a retry does not go on after it has ended.
func TestLibraryIsBounded(t *testing.T) {
	e := starlark.New()
	load(t, e, "next", "def handle(ctx):\n    return 1\n")
	for name, c := range map[string]struct {
		body    string
		kind    fault.Kind
		timeout time.Duration
	}{
		"results that are kept": {body: "all = []\n    while True:\n        all.append(base64.encode('x' * 1000000))", kind: fault.Limit},
		"tables that are kept":  {body: "all = []\n    while True:\n        all.append(csv.parse(',' * 400000))", kind: fault.Limit},
		"matches":               {body: "all = []\n    while True:\n        all.append(regex.find_all('(?:)', 'x' * 90000))", kind: fault.Limit},
		"memory in a retry":     {body: "def f():\n        all = []\n        while True:\n            all.append('x' * 1000000 + str(len(all)))\n    ctx.retry(f, attempts = 100)", kind: fault.Limit},
		"time in a retry":       {body: "def f():\n        while True:\n            pass\n    ctx.retry(f)", kind: fault.Deadline, timeout: 200 * time.Millisecond},
		"a search":              {body: "regex.find_all('a(?:.*b)?', 'a' * 90000)", kind: fault.Deadline, timeout: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, "def handle(ctx):\n    "+c.body+"\n")
			if c.timeout == 0 {
				c.timeout = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			_, err := invoke(ctx, e, name, "")
			if f := fault.From(err); f == nil || f.Kind != c.kind || f.Origin != fault.Script {
				t.Errorf("%+v", f)
			}
			if _, err := invoke(t.Context(), e, "next", ""); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}
