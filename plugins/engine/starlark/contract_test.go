package starlark_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/sdk/scripttest"
)

func TestContract(t *testing.T) {
	scripttest.Run(t, scripttest.Suite{New: starlark.New, Extension: ".star", Without: map[string]string{
		"service_error_code": "a script cannot catch errors",
		"limit_depth":        "there is no recursion",
	}})
}
