package enginetest_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPuppet(t *testing.T) {
	t.Parallel()
	files := []engine.File{{Name: "main"}}
	enginetest.Run(t, enginetest.Suite{
		New:    func() engine.Engine { return &strict{bundles: map[string]bool{}} },
		Bundle: engine.Bundle{Hash: "good", Script: "good", Files: files},
		Broken: engine.Bundle{Hash: "broken", Script: "broken", Files: files},
		Line:   3, Column: 7,
	})
}

// strict is the puppet that runs only what was loaded.
type strict struct {
	enginetest.Puppet
	mu      sync.Mutex
	bundles map[string]bool
}

func (s *strict) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	loaded, err := s.Puppet.Load(ctx, b)
	if err == nil {
		s.mu.Lock()
		s.bundles[b.Hash] = true
		s.mu.Unlock()
	}
	return loaded, err
}

func (s *strict) Unload(hash string) {
	s.mu.Lock()
	delete(s.bundles, hash)
	s.mu.Unlock()
}

func (s *strict) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	s.mu.Lock()
	known := s.bundles[inv.Bundle]
	s.mu.Unlock()
	if !known {
		return fault.New(fault.Internal, fault.Platform, "bundle %s is not loaded", inv.Bundle)
	}
	return s.Puppet.Invoke(ctx, inv, out)
}
