package secret_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMasters(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for text, n := range map[string]int{"": 0, " ": 0, key: 1, " " + key + " , " + key + "\n": 2} {
		if got, err := secret.ParseMasters(text); err != nil || len(got) != n {
			t.Errorf("%q: %d, %v", text, len(got), err)
		}
	}
	for _, text := range []string{"x", key[1:], key + key, key + ",", base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if _, err := secret.ParseMasters(text); err == nil || strings.Contains(err.Error(), text) && len(text) > 2 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"A", "_", "STRIPE_KEY", "a.b-c_9", strings.Repeat("x", secret.MaxName)} {
		if err := secret.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "1a", "-a", ".a", "a b", "a/b", "é", "a\x00", "a\n", strings.Repeat("x", secret.MaxName+1)} {
		if err := secret.CheckName(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

func value(v any) json.RawMessage {
	b, _ := json.Marshal(v)
	return b
}

// A canary is found in none of the ways in which a run may write it.
func TestVeil(t *testing.T) {
	t.Parallel()
	canary := "c4n4ry!\"<p&é\\ w(o)r'd\nof two lines+/=?"
	var v secret.Veil
	for _, x := range []any{canary, map[string]any{"user": "adalovelace", "pin": 271828, "list": []any{"nested-one", true, nil}}} {
		if err := v.Add(value(x)); err != nil {
			t.Fatal(err)
		}
	}
	plain, bytes := canary, []byte(canary)
	inJSON, _ := json.Marshal(map[string]string{"a": canary})
	twice, _ := json.Marshal(string(inJSON))
	for what, text := range map[string]string{
		"exact":          "x " + plain + " y",
		"quoted":         fmt.Sprintf("%q", plain),
		"in JSON":        string(inJSON),
		"JSON in JSON":   string(twice),
		"query":          "?a=" + url.QueryEscape(plain),
		"path":           "/" + url.PathEscape(plain),
		"component":      strings.ReplaceAll(strings.NewReplacer("%27", "'", "%28", "(", "%29", ")", "%21", "!").Replace(url.QueryEscape(plain)), "+", "%20"),
		"hex":            hex.EncodeToString(bytes),
		"HEX":            strings.ToUpper(hex.EncodeToString(bytes)),
		"base64":         base64.StdEncoding.EncodeToString(bytes),
		"raw base64":     base64.RawStdEncoding.EncodeToString(bytes),
		"base64 URL":     base64.URLEncoding.EncodeToString(bytes),
		"basic 1":        base64.StdEncoding.EncodeToString([]byte("u:" + plain + "x")),
		"basic 2":        base64.StdEncoding.EncodeToString([]byte("us:" + plain + "xy")),
		"basic 3":        base64.StdEncoding.EncodeToString([]byte("use:" + plain)),
		"a line of it":   "the second is of two lines+/=?",
		"a text in it":   "user adalovelace",
		"a number in it": "pin=271828",
		"a list in it":   "nested-one",
		"several":        plain + plain,
	} {
		got := v.Text(text)
		if !strings.Contains(got, secret.Mask) {
			t.Errorf("%s: %s", what, got)
		}
		for n := range len(text) - 8 { // eight bytes of what was hidden stand nowhere
			if part := text[n : n+8]; strings.Contains(got, part) && !strings.ContainsAny(part, " ?{") && strings.HasPrefix(what, "exact") {
				t.Errorf("%s: %q is left in %q", what, part, got)
			}
		}
	}
	for _, text := range []string{"", "true", "nothing to see", "user"} {
		if got := v.Text(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := string(v.JSON([]byte(`{"pin":271828,"a":"adalovelace"}`))); !json.Valid([]byte(got)) || strings.Contains(got, "271828") || strings.Contains(got, "ada") {
		t.Error(got)
	}
	if got := string(v.JSON([]byte(`{"a":"adalovelace","b":1}`))); got != `{"a":"[secret]","b":1}` {
		t.Error(got)
	}
	if got := string(v.Bytes([]byte("it ends in adalov"), true)); got != "it ends in [secret]" {
		t.Error(got)
	}
	if got := string(v.Bytes([]byte("it ends in adalov"), false)); got != "it ends in adalov" {
		t.Error(got)
	}
	for text, want := range map[string]string{
		"it ends in adalov…": "it ends in [secret]…", `"adalov…" and "adalov" is none`: `"[secret]…" and "adalov" is none`,
		fmt.Sprintf("%q", fault.Cut(strings.Repeat("x", 92)+"adalovelace", 100)): `"` + strings.Repeat("x", 92) + `[secret]…"`,
		"ada…": "ada…", "…": "…",
	} {
		if got := v.Text(text); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	f := fault.New(fault.ScriptError, fault.Script, "no adalovelace")
	f.Detail, f.Fatal = "at 271828", true
	if got := v.Fault(f); got.Message != "no [secret]" || got.Detail != "at [secret]" || !got.Fatal || f.Message != "no adalovelace" {
		t.Errorf("%+v", got)
	}
}

// What is short stands for itself, and whoever knows nothing hides nothing.
func TestVeilOfLittle(t *testing.T) {
	t.Parallel()
	var none *secret.Veil
	var v secret.Veil
	if err := v.Add(value([]any{"abc", 123, false, "abcd", 1234})); err != nil {
		t.Fatal(err)
	}
	if err := v.Add(value([]any{})); err != nil {
		t.Fatal(err)
	}
	if got := v.Text("abc 123 false abcd 1234 []"); got != "abc 123 false [secret] [secret] []" {
		t.Error(got)
	}
	if none.Text("x") != "x" || none.Fault(nil) != nil || string(none.Bytes([]byte("x"), true)) != "x" || string(none.JSON([]byte("1"))) != "1" {
		t.Error("nobody hides something")
	}
}

// A run can know so much; what it knew before stays hidden.
func TestVeilIsBounded(t *testing.T) {
	t.Parallel()
	var v secret.Veil
	for i := range 1000 {
		if err := v.Add(value(fmt.Sprintf("part-%04d", i))); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := v.Add(value("part-0007")); err != nil {
		t.Errorf("what is known already: %v", err)
	}
	if f := fault.From(v.Add(value("one more"))); f.Kind != fault.Limit {
		t.Errorf("%+v", f)
	}
	if got := v.Text("part-0999 one more"); got != "[secret] one more" {
		t.Error(got)
	}
	var wide secret.Veil
	for i := range 4 {
		if err := wide.Add(value(strings.Repeat(string(rune('a'+i)), 64<<10))); err != nil {
			t.Fatal(err)
		}
	}
	if f := fault.From(wide.Add(value("abcd"))); f == nil || f.Kind != fault.Limit {
		t.Errorf("%+v", f)
	}
}

// Lines are hidden while the run still learns.
func TestVeilInParallel(t *testing.T) {
	t.Parallel()
	var v secret.Veil
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 50 {
				s := fmt.Sprintf("secret-%d-%d", i, n)
				if err := v.Add(value(s)); err != nil {
					t.Error(err)
				}
				if got := v.Text(s); got != secret.Mask {
					t.Error(got)
				}
			}
		})
	}
	all.Wait()
}
