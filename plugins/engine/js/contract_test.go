package js_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/scripttest"
)

func TestContract(t *testing.T) {
	scripttest.Run(t, scripttest.Suite{New: js.New, Extension: ".ts"})
}
