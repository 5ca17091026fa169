package cron_test

import (
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

func TestMain(m *testing.M) { coretest.Main(m, coretest.Child("clockwork", clockwork)) }
