package stdlib_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/stdlib"
)

// call calls a function of the table by its title.
func call(title string, args ...any) (any, error) {
	list := stdlib.Functions()
	i := slices.IndexFunc(list, func(f stdlib.Function) bool { return f.Title() == title })
	if i < 0 {
		return nil, fmt.Errorf("there is no %s", title)
	}
	for len(args) < len(list[i].Params) {
		args = append(args, nil)
	}
	return list[i].Call(func() bool { return false }, args)
}

// Arguments that may be left out stand behind the others and have values of their kind, and every function is one of a module.
func TestTable(t *testing.T) {
	t.Parallel()
	modules := map[string]bool{}
	for _, m := range stdlib.Modules() {
		modules[m[0]] = m[1] != ""
	}
	seen := map[string]bool{}
	for _, f := range stdlib.Functions() {
		if seen[f.Title()] || !modules[f.Module] || f.Says == "" || f.Go == "" {
			t.Errorf("%s is there twice, or says too little", f.Title())
		}
		seen[f.Title()] = true
		option := false
		for _, p := range f.Params {
			if option && p.Default == nil {
				t.Errorf("%s: %s stands behind what may be left out", f.Title(), p.Name)
			}
			option = p.Default != nil
		}
	}
}

// RFC 4648 section 10, RFC 4231, RFC 2202 and FIPS 180.
func TestVectors(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0xaa}, 131)
	for _, c := range []struct {
		title string
		args  []any
		want  string // of bytes the hexadecimal form
	}{
		{"base64.encode", []any{[]byte("fooba")}, "Zm9vYmE="},
		{"base64.encode", []any{[]byte("fooba"), true}, "Zm9vYmE"},
		{"base64.decode", []any{"Zm9vYmE="}, "666f6f6261"},
		{"base64.decode", []any{"Zm9vYmE"}, "666f6f6261"},
		{"base64.decode", []any{"-_8=", true}, "fbff"},
		{"base64.decode", []any{""}, ""},
		{"hex.decode", []any{"0aFf"}, "0aff"},
		{"url.encode", []any{"é -._~!'()*+"}, "%C3%A9%20-._~%21%27%28%29%2A%2B"},
		{"url.decode", []any{"%c3%a9+%20"}, "é+ "},
		{"url.query", []any{map[string][]string{"b": {"1", "2"}, "a": {"&"}}}, "a=%26&b=1&b=2"},
		{"hash.sha256", []any{[]byte("")}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"hash.sha256", []any{[]byte("abc")}, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"hash.hmac_sha256", []any{bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There")}, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"hash.hmac_sha256", []any{long, []byte("Test Using Larger Than Block-Size Key - Hash Key First")}, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{"hash.hmac_sha512", []any{bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There")}, "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"},
		{"hash.hmac_sha1", []any{[]byte("Jefe"), []byte("what do ya want for nothing?")}, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{"csv.format", []any{[][]string{{`a"b`, "c"}, {""}}}, "\"a\"\"b\",c\n\n"},
		{"csv.format", []any{[][]string{{"a;b", "c"}}, ";"}, "\"a;b\";c\n"},
		{"time.format", []any{time.Unix(1790000000, 0)}, "2026-09-21T14:13:20Z"},
		{"time.format", []any{time.Unix(1790000000, 0), "15:04 MST", "Europe/Berlin"}, "16:13 CEST"},
	} {
		v, err := call(c.title, c.args...)
		got := fmt.Sprint(v)
		if b, ok := v.([]byte); ok {
			got = hex.EncodeToString(b)
		}
		if err != nil || got != c.want {
			t.Errorf("%s %v: %q %v, not %q", c.title, c.args, got, err, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		title string
		args  []any
		says  string
	}{
		{"base64.decode", []any{"Zm9v YmE="}, "base64.decode: illegal base64 data at input byte 4"},
		{"base64.decode", []any{"Zm9v\nYmE="}, "base64.decode: illegal base64 data at input byte 4"},
		{"base64.decode", []any{"+/8="}, ""},
		{"base64.decode", []any{"+/8=", true}, "illegal base64"},
		{"base64.decode", []any{"Zm9vYg="}, "illegal base64"},
		{"base64.decode", []any{"Z"}, "illegal base64"},
		{"base64.decode", []any{7}, "base64.decode: text has to be a text"},
		{"hex.decode", []any{"abc"}, "hex.decode: odd length"},
		{"hex.decode", []any{"0g"}, "hex.decode: invalid byte"},
		{"url.decode", []any{"%ff"}, "not UTF-8"},
		{"url.decode", []any{"%f"}, "invalid URL escape"},
		{"url.parse", []any{"https://user:secret@exa mple.com/"}, "url.parse: invalid character"},
		{"url.parse_query", []any{"a=%zz"}, "invalid URL escape"},
		{"csv.parse", []any{"a\nb\"c\n"}, `csv.parse: line 2, column 2: bare " in non-quoted-field`},
		{"csv.parse", []any{"a", "ab"}, "the separator"},
		{"csv.parse", []any{"a", "\n"}, "the separator"},
		{"csv.format", []any{[][]string{}, ""}, "the separator"},
		{"random.int", []any{int64(2), int64(1)}, "the lower bound is above"},
		{"time.parse", []any{"today"}, "cannot parse"},
		{"time.parse", []any{"2026", "2006", "Nowhere/Else"}, `there is no time zone "Nowhere/Else"`},
		{"time.format", []any{time.Now(), "2006", "../../etc/passwd"}, "there is no time zone"},
		{"time.format", []any{time.Now(), "2006", "Local"}, "there is no time zone"},
		{"time.duration", []any{"soon"}, "time.duration: "},
		{"regex.find", []any{"(", "a"}, "regex.find: error parsing regexp"},
	} {
		_, err := call(c.title, c.args...)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s %v: %v, not %s", c.title, c.args, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

// Every bound holds what it says, and no more.
func TestBounds(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("a", stdlib.MaxInput)
	empty := func(n int) [][]string { return slices.Repeat([][]string{{}}, n) }
	for _, c := range []struct {
		what, title string
		at, past    []any
		says        string
	}{
		{"input of bytes", "base64.encode", []any{[]byte(full)}, []any{[]byte(full + "a")}, "up to 8 MiB"},
		{"input of texts", "url.decode", []any{full}, []any{full + "a"}, "up to 8 MiB"},
		{"input of two", "hash.hmac_sha256", []any{[]byte("k"), []byte(full[1:])}, []any{[]byte("k"), []byte(full)}, "up to 8 MiB"},
		{"input of rows", "csv.format", []any{empty(stdlib.MaxInput/8 - 1)}, []any{empty(stdlib.MaxInput / 8)}, "up to 8 MiB"},
		{"output of url.encode", "url.encode", []any{strings.Repeat("%", stdlib.MaxOutput/3)}, []any{strings.Repeat("%", stdlib.MaxOutput/3+1)}, "more than 16 MiB"},
		{"output of url.query", "url.query", []any{map[string][]string{"a": {strings.Repeat("%", stdlib.MaxOutput/3-1)}}}, []any{map[string][]string{"a": {strings.Repeat("%", stdlib.MaxOutput/3)}}}, "more than 16 MiB"},
		{"output of regex.replace", "regex.replace", []any{"a", full[:1<<10], strings.Repeat("b", 16<<10)}, []any{"a", full[:1<<10], strings.Repeat("b", 16<<10+1)}, "more than 16 MiB"},
		{"an address", "url.parse", []any{"/" + full[:8<<10-1]}, []any{"/" + full[:8<<10]}, "more than 8192 bytes"},
		{"fields of a query", "url.parse_query", []any{strings.Repeat("&", 9_999)}, []any{strings.Repeat("&", 10_000)}, "more than 10000 fields"},
		{"fields of CSV", "csv.parse", []any{strings.Repeat(",", 499_999)}, []any{strings.Repeat(",", 500_000)}, "more than 500000"},
		{"rows of CSV", "csv.parse", []any{strings.Repeat("\n", 499_999)}, []any{strings.Repeat("\n", 500_000)}, "more than 500000"},
		{"random bytes", "random.bytes", []any{int64(65536)}, []any{int64(65537)}, "from 0 to 65536 bytes"},
		{"no random bytes", "random.bytes", []any{int64(0)}, []any{int64(-1)}, "from 0 to 65536 bytes"},
		{"random numbers", "random.int", []any{int64(-1 << 53), int64(1 << 53)}, []any{int64(-1 << 53), int64(1<<53 + 1)}, "high has to be a whole number"},
		{"a layout", "time.format", []any{time.Now(), full[:1<<10]}, []any{time.Now(), full[:1<<10+1]}, "up to 1024 bytes"},
		{"a time", "time.parse", []any{full[:1<<10], full[:1<<10]}, []any{full[:1<<10+1], full[:1<<10+1]}, "up to 1024 bytes"},
		{"a pattern", "regex.quote", []any{full[:1<<10]}, []any{full + "a"}, "up to 8 MiB"},
		{"a pattern's length", "regex.matches", []any{full[:1<<10], "a"}, []any{full[:1<<10+1], "a"}, "more than 1024 bytes"},
		{"a pattern's steps", "regex.matches", []any{strings.Repeat("x{1000}", 9) + "x{989}", "a"}, []any{strings.Repeat("x{1000}", 9) + "x{990}", "a"}, "more than 10000 steps"},
		{"work", "regex.matches", []any{full[:100], full[:500_000]}, []any{full[:100], full[:500_001]}, "too much work"},
		{"matches", "regex.find_all", []any{"a", full[:100_000]}, []any{"a", full[:100_001]}, "more than 100000 matches"},
		{"matches with groups", "regex.replace", []any{"(a)", full[:50_000], ""}, []any{"(a)", full[:50_001], ""}, "more than 50000 matches"},
	} {
		if _, err := call(c.title, c.at...); err != nil {
			t.Errorf("%s, at its bound: %v", c.what, err)
		}
		if _, err := call(c.title, c.past...); err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), c.title) {
			t.Errorf("%s, beyond it: %v", c.what, err)
		}
	}
}

// Patterns that take a backtracking search forever, or much memory, are searched in linear time or refused before memory is taken.
func TestPatterns(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a", 2_000) + " é\xff\na!a!" + strings.Repeat("a", 2_000) + "!"
	for pattern, refused := range map[string]bool{
		`(a+)+$`: false, `(a*)*$`: false, `(a|aa)+$`: false, `(a|a)*$`: false, `(.*a){20}$`: false, `^(a?){50}a{50}$`: false, `(a?){100}a{100}`: false,
		`([a-z]+)*=`: false, `(x+x+)+y`: false, `a*a*a*a*a*b`: false, `(.*)(.*)(.*)(.*)=$`: false, `\b\b\b\b\b$`: false, `(?i)(\pL+)*\d`: false,
		`^(([a-z])+.)+[A-Z]([a-z])+$`: false, `(?:a|b|ab)*c`: false, `a.*?b.*?c.*?d`: false, `[\w.]+@[\w.]+\.\w+`: false,
		`x{1000}`: false, `x{1001}`: true, `(x{100}){11}`: true, strings.Repeat(`x{1000}`, 30): true, strings.Repeat(`x{1000}`, 100): true, strings.Repeat(`\pL`, 300): false,
		`(` + strings.Repeat("a", 100) + `){1000}`: true, `((a{10}){10}){10}`: false, `(((a{10}){10}){10}){10}`: true, `\w{1000}\w{1000}`: false,
		strings.Repeat("(", 500) + "!" + strings.Repeat(")", 500): false, `(?P<n>a)(?P<m>b)`: false, `(?=a)b`: true, `\1`: true, `a**`: true, `[z-a]`: true, `(?<!a)b`: true,
		`\b`: false, `^`: false, `$`: false, `(?m)^a|!$`: false, `a?`: false, ``: false, `\B`: false, `(a)|(!)`: false, `(?U)a+`: false, `(?i)A{3}`: false,
	} {
		v, err := call("regex.find_all", pattern, text)
		if (err != nil) != refused {
			t.Errorf("%.40s: %v, %T", pattern, err, v)
		}
		if refused {
			continue
		}
		want := regexp.MustCompile(pattern)
		if found := v.([]any); len(found) != len(want.FindAllStringIndex(text, -1)) {
			t.Errorf("%.40s: found %d times", pattern, len(found))
		}
		split, err := call("regex.split", pattern, text)
		if err != nil || fmt.Sprintf("%q", split) != fmt.Sprintf("%q", want.Split(text, -1)) {
			t.Errorf("%.40s: splits differently: %v", pattern, err)
		}
		replaced, err := call("regex.replace", pattern, text, "<$0>")
		if err != nil || replaced != want.ReplaceAllString(text, "<$0>") {
			t.Errorf("%.40s: replaces differently: %v", pattern, err)
		}
	}
}

// What looks through all of the text for each match ends with the run.
func TestSearchEnds(t *testing.T) {
	t.Parallel()
	list := stdlib.Functions()
	find := list[slices.IndexFunc(list, func(f stdlib.Function) bool { return f.Title() == "regex.find_all" })]
	asked := 0
	_, err := find.Call(func() bool { asked++; return asked > 10 }, []any{"a(?:.*b)?", strings.Repeat("a", 100_000)})
	if err == nil || !strings.Contains(err.Error(), "the run is over") || asked != 11 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// BenchmarkPattern is a search that keeps as many steps busy as there can be, in nanoseconds for each step and byte.
func BenchmarkPattern(b *testing.B) {
	text := strings.Repeat("a", 100_000)
	for b.Loop() {
		if _, err := call("regex.matches", `(?:a?){100}a{100}b`, text); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(text))/300, "ns/step")
}

func FuzzBase64(f *testing.F) {
	f.Add("Zm9vYg==", true)
	f.Fuzz(func(t *testing.T, text string, url bool) {
		v, err := call("base64.decode", text, url)
		if err != nil {
			return
		}
		again, err := call("base64.encode", v, url)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := call("base64.decode", again, url); err != nil || !bytes.Equal(back.([]byte), v.([]byte)) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
