package yaegi_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/scripttest"
)

func TestContract(t *testing.T) {
	scripttest.Run(t, scripttest.Suite{New: yaegi.New, Extension: ".go"})
}
