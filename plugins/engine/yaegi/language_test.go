package yaegi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/fault"
)

// What Go does, a script does, or it is refused with a line: nothing is silently another thing. Each body ends with a
// return; refused says what the refusal has to say.
func TestLanguage(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for name, c := range map[string]struct {
		imports []string
		body    string
		want    string
		refused string
		more    string // declarations behind Handle
	}{
		"loop variables of closures":    {body: `var fs []func() int; for i := 0; i < 3; i++ { fs = append(fs, func() int { return i }) }; return []int{fs[0](), fs[1](), fs[2]()}, nil`, want: `[0,1,2]`},
		"loop variables of a list":      {body: `var fs []func() int; for i, v := range []int{5, 6, 7} { fs = append(fs, func() int { return i*10 + v }) }; return []int{fs[0](), fs[1](), fs[2]()}, nil`, want: `[5,16,27]`},
		"loop variables of a map":       {body: `var ps []*string; for k := range map[string]int{"a": 1, "b": 2} { ps = append(ps, &k) }; return *ps[0] != *ps[1], nil`, want: `true`},
		"changed and kept":              {body: `var fs []func() int; for i := 0; i < 6; i++ { i++; fs = append(fs, func() int { return i }) }; return fs[0](), nil`, refused: "loop variable i"},
		"kept by a pointer":             {body: `var ps []*int; for i := 0; i < 3; i++ { ps = append(ps, &i) }; return *ps[0], nil`, refused: "loop variable i"},
		"changed in a range":            {body: `n := 0; for i := range 3 { i *= 2; n += i }; return n, nil`, want: `6`},
		"continue in a loop of copies":  {body: `var fs []func() int; for i := 0; i < 4; i++ { if i%2 == 0 { continue }; fs = append(fs, func() int { return i }) }; return []int{fs[0](), fs[1]()}, nil`, want: `[1,3]`},
		"deferred loop variables":       {body: `return order(), nil`, more: "func order() (out []int) { for i := 0; i < 3; i++ { defer func() { out = append(out, i) }() }; return nil }", refused: "deferred in a loop"},
		"deferred in a loop":            {body: `return order(), nil`, more: "func order() (out []int) { for i := 0; i < 3; i++ { defer func(i int) { out = append(out, i) }(i) }; return nil }", refused: "deferred in a loop"},
		"deferred in a body":            {body: `return order(), nil`, more: "func order() (out []int) { for i := 0; i < 3; i++ { func() { defer func() { out = append(out, i) }() }() }; return out }", want: `[0,1,2]`},
		"deferred arguments":            {body: `return order(), nil`, more: "func order() (out []int) { x := 1; s := []int{1}; p := point{1}; defer func(n int, s []int, p point) { out = append(out, n, s[0], p.x) }(x, s, p); x = 2; s = []int{2}; p.x = 2; return nil }\ntype point struct{ x int }", want: `[1,1,1]`},
		"deferred arguments of a func":  {body: `order(); return got, nil`, more: "var got int\nfunc put(n int) { got = n }\nfunc order() { x := 1; defer put(x); x = 2 }", want: `1`},
		"deferred function value":       {body: `f := func() {}; defer f(); return 1, nil`, refused: "a deferred call of f"},
		"function value in a defer":     {body: `f := func() {}; defer func() { f() }(); return 1, nil`, refused: "a deferred call of f"},
		"deferred cancel":               {imports: []string{"context"}, body: `_, cancel := context.WithCancel(context.Background()); defer cancel(); return 1, nil`, want: `1`},
		"range over a number":           {body: `n := 0; for i := range 4 { n += i }; return n, nil`, want: `6`},
		"range over a typed number":     {body: `var m int8 = 3; var last int8; for i := range m { last = i }; return last, nil`, want: `2`},
		"range over a number, no key":   {body: `n := 0; for range 4 { n++ }; return n, nil`, want: `4`},
		"range over a call":             {body: `c := 0; f := func() int { c++; return 3 }; for range f() {}; return c, nil`, want: `1`},
		"range assigns":                 {body: `var i int; for i = range 5 {}; return i, nil`, want: `4`},
		"range over a number, labelled": {body: "n := 0\nouter:\nfor i := range 3 { for j := range 3 { if j == 2 { continue outer }; n += i*10 + j } }\nreturn n, nil", want: `63`},
		"range over a function":         {body: `for range func(yield func() bool) {} {}; return 1, nil`, refused: "go1.23"},
		"min":                           {body: `a, b := 3, 2; return []int{min(a, b), min(a, b, 1), max(a, b)}, nil`, want: `[2,1,3]`},
		"min of constants":              {body: `const x = min(2.5, 1); return x, nil`, want: `1`},
		"min of text":                   {body: `a := "b"; return min(a, "a"), nil`, want: `"a"`},
		"min of floats":                 {imports: []string{"math"}, body: `return math.IsNaN(max(1, math.NaN())), nil`, want: `true`},
		"min in min":                    {body: `a, b, c := 3, 2, 1; return min(a, min(b, c)), nil`, want: `1`},
		"min of an own type":            {body: `a, b := size(3), size(2); return min(a, b), nil`, more: "type size int", want: `2`},
		"clear of a map":                {body: `m := map[string]int{"a": 1}; clear(m); return len(m), nil`, want: `0`},
		"clear of a slice":              {body: `s := []int{1, 2}; clear(s); return s, nil`, want: `[0,0]`},
		"generic function":              {body: `return double([]int{1, 2}), nil`, more: "func double[T int | float64](s []T) []T { var out []T; for _, v := range s { out = append(out, v*2) }; return out }", want: `[2,4]`},
		"generic type":                  {body: `s := stack[string]{}; s.push("a"); s.push("b"); return s.items, nil`, more: "type stack[T any] struct{ items []T }\nfunc (s *stack[T]) push(v T) { s.items = append(s.items, v) }", want: `["a","b"]`},
		"method value":                  {body: `c := counter{}; f := c.add; f(); f(); return c.n, nil`, more: "type counter struct{ n int }\nfunc (c *counter) add() { c.n++ }", want: `2`},
		"embedding":                     {body: `return outer{inner{4}}.twice(), nil`, more: "type inner struct{ n int }\nfunc (i inner) twice() int { return i.n * 2 }\ntype outer struct{ inner }", want: `8`},
		"switch with fallthrough":       {body: `n := 0; switch 1 { case 1: n++; fallthrough; case 2: n += 10; default: n += 100 }; return n, nil`, want: `11`},
		"goto":                          {body: "n := 0\nagain:\nn++\nif n < 3 { goto again }\nreturn n, nil", want: `3`},
		"named results and recover":     {body: `return try(), nil`, more: "func try() (out string) { defer func() { out = \"saved\" }(); defer func() { recover() }(); panic(1) }", want: `"saved"`},
		"runes":                         {body: `n := 0; for _, r := range "aé✓" { n += int(r) }; return n, nil`, want: `10333`},
		"arrays are values":             {body: `a := [2]int{1, 2}; b := a; b[0] = 9; return a[0], nil`, want: `1`},
		"slices share":                  {body: `a := []int{1, 2, 3}; b := a[:2]; b[0] = 9; return a[0], nil`, want: `9`},
		"three-index slice":             {body: `a := []int{1, 2, 3}; b := append(a[:1:1], 9); return []int{a[1], b[1]}, nil`, want: `[2,9]`},
		"struct comparison":             {body: `return point{1, 2} == point{1, 2}, nil`, more: "type point struct{ x, y int }", want: `true`},
		"map of structs":                {body: `m := map[string]point{"a": {1, 2}}; return m["a"].y, nil`, more: "type point struct{ x, y int }", want: `2`},
		"iota":                          {body: `return []int{a, b, c}, nil`, more: "const ( a = iota * 10; b; c )", want: `[0,10,20]`},
		"integer overflow":              {body: `var x uint8 = 250; x += 10; return x, nil`, want: `4`},
		"integer division":              {body: `a, b := -7, 2; return []int{a / b, a % b}, nil`, want: `[-3,-1]`},
		"shifts":                        {body: `var s uint = 70; return 1<<s == 0, nil`, want: `true`},
		"complex conversion":            {body: `f := 2.9; return int(f) + int(int8(-128)), nil`, want: `-126`},
		"errors.Is":                     {imports: []string{"errors", "fmt"}, body: `e := errors.New("x"); return errors.Is(fmt.Errorf("y: %w", e), e), nil`, want: `true`},
		"closures share":                {body: `n := 0; inc := func() { n++ }; inc(); inc(); return n, nil`, want: `2`},
		"recursive closure":             {body: `var f func(int) int; f = func(n int) int { if n < 2 { return n }; return f(n-1) + f(n-2) }; return f(10), nil`, want: `55`},
		"variadic":                      {body: `return sum(1, 2, 3) + sum([]int{4, 5}...), nil`, more: "func sum(n ...int) (t int) { for _, v := range n { t += v }; return t }", want: `15`},
		"type switch":                   {body: `return kind(1) + kind("a") + kind(nil), nil`, more: "func kind(v any) string { switch v.(type) { case int: return \"i\"; case string: return \"s\"; case nil: return \"n\" }; return \"?\" }", want: `"isn"`},
		"select with default":           {body: `c := make(chan int, 1); c <- 4; n := 0; select { case v := <-c: n = v; default: n = -1 }; select { case <-c: default: n++ }; return n, nil`, want: `5`},
		"select of shared channels":     {body: `jobs, out, done := make(chan int), make(chan int, 9), make(chan int); for range 1 { go func() { for { select { case j := <-jobs: out <- j; case <-done: return } } }() }; for i := range 4 { jobs <- i }; n := 0; for range 4 { n += <-out }; close(done); return n, nil`, want: `6`},
		"select of one goroutine":       {body: `out, done := make(chan int), make(chan int); go func() { for i := 0; ; i++ { select { case out <- i: case <-done: return } } }(); n := <-out + <-out + <-out; close(done); return n, nil`, want: `3`},
		"select of own channels":        {body: `return <-count(1) + <-count(2), nil`, more: "func count(n int) chan int { out := make(chan int); go func() { for { select { case out <- n: default: } } }(); return out }", refused: "a select that several goroutines may run with their own out"},
		"select of own values":          {body: `out := make(chan int); for i := range 2 { go func() { select { case out <- i: } }() }; return <-out + <-out, nil`, refused: "with their own i"},
		"select without goroutines":     {body: `return pick(make(chan int)), nil`, more: "func pick(c chan int) int { select { case v := <-c: return v; default: return 7 } }", want: `7`},
		"goroutines":                    {body: `c := make(chan int); for i := range 3 { go func() { c <- i }() }; n := 0; for range 3 { n += <-c }; return n, nil`, want: `3`},
		"goroutine with arguments":      {body: `c := make(chan float64, 1); x := 2.0; go send(c, x*2, 1); x = 9; return <-c, nil`, more: "func send(c chan float64, v, w float64) { c <- v + w }", want: `5`},
		"goroutine of a method":         {body: `s := sender{make(chan int, 1)}; go s.send(3, 4); return <-s.c, nil`, more: "type sender struct{ c chan int }\nfunc (s sender) send(v ...int) { s.c <- len(v) }", want: `2`},
		"goroutine of a literal":        {body: "c := make(chan string)\ngo func(a,\n b string) { c <- a + b }(\"x\",\n \"y\")\nreturn <-c, nil", want: `"xy"`},
		"goroutine of two results":      {body: `c := make(chan int, 1); go put(two(c)); return <-c, nil`, more: "func two(c chan int) (chan int, int) { return c, 8 }\nfunc put(c chan int, n int) { c <- n }", want: `8`},
		"goroutine of a builtin":        {body: `c := make(chan int); go close(c); <-c; return 1, nil`, refused: "function of the language itself"},
		"sort.Slice":                    {imports: []string{"sort"}, body: `s := []int{3, 1, 2}; sort.Slice(s, func(i, j int) bool { return s[i] < s[j] }); return s, nil`, want: `[1,2,3]`},
		"sort.Interface":                {imports: []string{"sort"}, body: `s := byLen{"ccc", "a", "bb"}; sort.Sort(s); return s, nil`, more: "type byLen []string\nfunc (b byLen) Len() int { return len(b) }\nfunc (b byLen) Less(i, j int) bool { return len(b[i]) < len(b[j]) }\nfunc (b byLen) Swap(i, j int) { b[i], b[j] = b[j], b[i] }", want: `["a","bb","ccc"]`},
		"anonymous struct":              {body: "return struct { A int `json:\"a\"` }{3}, nil", want: `{"a":3}`},
		"const expressions":             {body: `const kb = 1 << 10; return kb*3 - 1, nil`, want: `3071`},
		"string building":               {imports: []string{"strings"}, body: `var b strings.Builder; for i := range 3 { b.WriteByte(byte('a' + i)) }; return b.String(), nil`, want: `"abc"`},
		"an array that is too large":    {body: `var a [1 << 40]byte; return len(a), nil`, refused: "more than 64 MB"},
		"a constant that is too large":  {body: `return len(make([]byte, 16<<30)), nil`, refused: "more than 64 MB"},
		"append of a slice":             {body: `a, b := []int{1}, []int{2, 3}; return append(a, b...), nil`, want: `[1,2,3]`},
		"append of text":                {body: `a, b := []byte("a"), "bc"; return string(append(a, b...)), nil`, want: `"abc"`},
		"adding text":                   {body: `s := word("a"); for range 2 { s += "b" + s }; return s, nil`, more: "type word string", want: `"abababa"`},
		"make with a number":            {body: `n := 3; return len(make([]int, n, n+1)), nil`, want: `3`},
	} {
		src := script(c.imports, c.body) + c.more
		loaded, err := e.Load(t.Context(), bundle(name, src))
		if c.refused != "" {
			if f := fault.From(err); f == nil || f.Kind != fault.Compile || !strings.Contains(f.Message, c.refused) ||
				len(loaded.Diagnostics) == 0 || loaded.Diagnostics[0].Line == 0 {
				t.Errorf("%s: not refused: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Cleanup(func() { e.Unload(name) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		a, err := invoke(ctx, e, name, "")
		cancel()
		if err != nil || a.body.String() != c.want {
			t.Errorf("%s: %s, not %s: %v", name, a.body.String(), c.want, err)
		}
	}
}
