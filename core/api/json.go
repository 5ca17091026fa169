package api

import (
	"errors"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"github.com/picloud/picloud/core/docquery"
)

// strictJSON reads JSON as one meaning only: a name that appears twice, bytes after the end and invalid UTF-8 are errors,
// and names must match in case. The standard library takes the last of two names, whatever their case, so that a proxy
// or an audit may see another request than the one that is done.
var strictJSON = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		// Bodies are first read as any, to be compared with the schema: the place to look at every value.
		all, first := v.(*any)
		if first {
			if err := docquery.Bounded(data); err != nil {
				return err
			}
		}
		if err := json.Unmarshal(data, v); err != nil {
			return err
		}
		if first && holdsNUL(*all) {
			return errNUL
		}
		return nil
	},
}

var errNUL = errors.New("a string holds U+0000, which cannot be stored as text")

func holdsNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.IndexByte(v, 0) >= 0
	case []any:
		for _, item := range v {
			if holdsNUL(item) {
				return true
			}
		}
	case map[string]any:
		for name, item := range v {
			if holdsNUL(name) || holdsNUL(item) {
				return true
			}
		}
	}
	return false
}
