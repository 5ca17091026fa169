package script

import (
	"strings"
	"testing"
)

func TestNested(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": false, "1": false, "[[1]]": false, "[[[1]]]": true, `[{"a":[]}]`: true, `[{"a":1},{"b":[]}]`: true, `[[],{},[]]`: false,
		`["[[[["]`: false, `["\"[[[["]`: false, `["\\",[[]]]`: true, "[[[": true, "]]][[": false, strings.Repeat("[]", 100): false,
	} {
		if Nested(text, 2) != want || Nested([]byte(text), 2) != want {
			t.Errorf("%s: not %t", text, want)
		}
	}
}
