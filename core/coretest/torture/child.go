package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/node"
)

const (
	// NodeChild is the name of the child that is a node.
	NodeChild = "node"
	// EngineArg is the first argument of the process that is an engine: plugins have no environment.
	EngineArg = "child:engine"
	// setupEnv holds the setup of a node.
	setupEnv = "PICLOUD_TORTURE_NODE"
)

// nodeSetup is what a node process is told.
type nodeSetup struct {
	Name, Data, Database, Recorder string
	Slots                          int
	Drain                          time.Duration
	Failpoints                     string
	Seed                           uint64
}

// nodeReady is what it says once it serves.
type nodeReady struct{ Public, Admin, Control, Token string }

// readyMark begins the line of a nodeReady.
const readyMark = "torture-ready "

// RunNode is a node process: the real node, with failpoints that can be turned on from outside.
func RunNode() error {
	var s nodeSetup
	if err := json.Unmarshal([]byte(os.Getenv(setupEnv)), &s); err != nil {
		return fmt.Errorf("read %s: %w", setupEnv, err)
	}
	runtime.MemProfileRate = profileEvery
	failpoint.OnAct(func(name, action string) {
		res, err := http.PostForm(s.Recorder+"/acted", url.Values{"point": {name + "=" + action}})
		if err == nil {
			_ = res.Body.Close()
		}
	})
	if err := failpoint.Enable(s.Failpoints, s.Seed); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := config.Default()
	cfg.DataDir, cfg.DatabaseURL, cfg.NodeName, cfg.Slots, cfg.Drain = s.Data, s.Database, s.Name, s.Slots, s.Drain
	cfg.EngineLosses = 1000 // every script ends processes: nothing is to be in quarantine for that
	cfg.Listen, cfg.AdminListen, cfg.CatchAll = "127.0.0.1:0", "127.0.0.1:0", true
	cfg.PluginCommand = []string{self, EngineArg, s.Recorder}
	cfg.PluginLayers = []string{} // it reports over the network
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr})

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(control, controls()) }() // until the end of the process
	n := node.New(cfg, log)
	if err := n.Start(ctx); err != nil {
		return err
	}
	line, err := json.Marshal(nodeReady{
		"http://" + n.PublicAddr(), "http://" + n.AdminAddr(), "http://" + control.Addr().String(), n.OwnerToken(),
	})
	if err != nil {
		return err
	}
	fmt.Println(readyMark + string(line))
	select {
	case <-ctx.Done():
	case <-n.Done():
		log.Error("the node failed", "error", n.Err())
	}
	drain, cancel := context.WithTimeout(context.Background(), cfg.Drain)
	defer cancel()
	return n.Stop(drain)
}

// nodeStats is what a node holds.
type nodeStats struct{ Goroutines, Files, Waiters int }

// profileEvery has about every so many bytes of memory leave a trace of who asked for them.
const profileEvery = 1 << 10

// inUse estimates how many objects live that a function has made.
func inUse(function string) int {
	runtime.GC() // the profile is as of the collection before the last
	runtime.GC()
	n, _ := runtime.MemProfile(nil, false)
	records := make([]runtime.MemProfileRecord, n+100)
	n, _ = runtime.MemProfile(records, false)
	bytes := 0.0
	for _, r := range records[:n] {
		frames := runtime.CallersFrames(r.Stack())
		for frame, more := frames.Next(); ; frame, more = frames.Next() {
			if strings.HasSuffix(frame.Function, function) {
				size := float64(r.AllocBytes) / float64(max(r.AllocObjects, 1))
				bytes += float64(r.InUseObjects()) / (1 - math.Exp(-size/profileEvery))
			}
			if !more {
				break
			}
		}
	}
	return int(bytes)
}

// controls turn failpoints on and tell what the process holds.
func controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /failpoints", func(w http.ResponseWriter, r *http.Request) {
		spec, err := io.ReadAll(r.Body)
		if err == nil {
			seed, _ := strconv.ParseUint(r.URL.Query().Get("seed"), 10, 64)
			err = failpoint.Enable(string(spec), seed)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		files, _ := os.ReadDir("/proc/self/fd")
		_ = json.NewEncoder(w).Encode(nodeStats{runtime.NumGoroutine(), len(files), inUse("inbox.(*Inbox).Register")})
	})
	mux.HandleFunc("GET /stacks", func(w http.ResponseWriter, _ *http.Request) {
		buffer := make([]byte, 4<<20)
		_, _ = io.Copy(w, strings.NewReader(string(buffer[:runtime.Stack(buffer, true)])))
	})
	return mux
}
