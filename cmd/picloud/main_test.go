package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/engine"
)

const (
	// platform is the child that is the real program, started by its arguments.
	platform = "platform"
	// plugin is the first argument of the child that is the real engine. It is not named by the environment, since
	// plugins have none.
	plugin = "child:plugin"
	// failpointEnv tells the platform what to do at which point, as failpoint.Enable takes it.
	failpointEnv = "PICLOUD_TEST_FAILPOINT"
	// recorderEnv tells the platform where its engines report.
	recorderEnv = "PICLOUD_TEST_RECORDER"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == plugin {
		engine.Serve(&reporting{yaegi.New(), os.Args[2]})
		return
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") && os.Getenv("PICLOUD_TEST_CHILD") == "" {
		main()
	}
	coretest.Main(m, coretest.Child(platform, func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		c := &cli{in: os.Stdin, out: os.Stdout, errs: os.Stderr}
		if err := failpoint.Enable(os.Getenv(failpointEnv), 1); err != nil {
			return err
		}
		if to := os.Getenv(recorderEnv); to != "" {
			c.launcher = []string{os.Args[0], plugin, to}
		}
		if code := c.run(ctx, os.Args[1:]); code != 0 {
			return fmt.Errorf("exit status %d", code)
		}
		return nil
	}))
}

// reporting is an engine that tells a recorder of every run before it starts and after it has ended. A run that cannot
// be reported does not start.
type reporting struct {
	engine.Engine
	to string
}

func (r *reporting) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	if err := r.report(ctx, "start", inv); err != nil {
		return err
	}
	defer func() { _ = r.report(context.WithoutCancel(ctx), "end", inv) }() // the recorder may be gone with its test
	return r.Engine.Invoke(ctx, inv, out)
}

func (r *reporting) report(ctx context.Context, what string, inv *engine.Invocation) error {
	form := url.Values{"id": {inv.ExecutionID}, "attempt": {strconv.Itoa(inv.Attempt)}, "pid": {strconv.Itoa(os.Getpid())}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.to+"/"+what, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("report %s: %w", what, err)
	}
	return res.Body.Close()
}
