package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/node"
)

// diagnose runs doctor and returns what it finds, by name.
func diagnose(t *testing.T, args ...string) (status int, found diagnosis, checks map[string]node.Finding) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"doctor", "--output", "json"}, args...), strings.NewReader(""), &out, &errs)
	if err := json.Unmarshal(out.Bytes(), &found); err != nil || errs.Len() > 0 {
		t.Fatalf("doctor says %q and %q: %v", out.String(), errs.String(), err)
	}
	checks = map[string]node.Finding{}
	for _, f := range found.Checks {
		checks[f.Name] = f
	}
	return status, found, checks
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	data := filepath.Join(coretest.DataDir(t), "data")
	status, found, checks := diagnose(t, "--data", data)
	if status != 0 || !found.OK {
		t.Errorf("status %d: %+v", status, found)
	}
	all := true
	for _, name := range []string{"kernel", "database", "data folder", "engine/yaegi", "uid", "landlock", "seccomp-session"} {
		f, ok := checks[name]
		if !ok || f.OK && (f.Help != "" || f.Found == "" && f.Stops == "") || !f.OK && (f.Help == "" || f.Found == "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for _, f := range found.Checks {
		all = all && f.OK
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("doctor makes the data folder: %v", err)
	}
	if status, found, _ = diagnose(t, "--data", data, "--require-isolation"); found.OK != all || (status == 0) != all {
		t.Errorf("with isolation required: status %d, %+v", status, found)
	}
	var out bytes.Buffer
	if status := run(t.Context(), []string{"doctor", "--data", data}, strings.NewReader(""), &out, io.Discard); status != 0 ||
		strings.Count(out.String(), "\n") != len(found.Checks)+1 || !strings.Contains(out.String(), "seccomp-session") {
		t.Errorf("status %d, %s", status, out.String())
	}
}

func TestDoctorFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	status, found, checks := diagnose(t, "--data", "/proc/none", "--postgres-bin", t.TempDir())
	if status != 1 || found.OK || checks["database"].OK || checks["data folder"].OK {
		t.Errorf("status %d, %+v", status, found)
	}
	if f := checks["database"]; !strings.Contains(f.Help, "install") || strings.Contains(f.Found, "\n") {
		t.Errorf("%+v", f)
	}
	var out bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &out, errs: io.Discard, launcher: []string{os.Args[0], plugin, "http://127.0.0.1:1"}}
	if status := c.run(t.Context(), []string{"doctor", "--data", t.TempDir(), "--require-isolation"}); status != 1 ||
		!strings.Contains(out.String(), "landlock           MISSING  it was not asked for; stops files") {
		t.Errorf("status %d, %s", status, out.String())
	}
}

// A server that requires isolation does not start without. One that does not says on /readyz what doctor says.
func TestIsolationOfServers(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	data := coretest.DataDir(t)
	_, _, checks := diagnose(t, "--data", data)

	var errs bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: io.Discard, errs: &errs, launcher: []string{os.Args[0], plugin, "http://127.0.0.1:1"}}
	status := c.run(t.Context(), []string{
		"serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--require-isolation", "--log-level", "off",
	})
	if status != 1 || !strings.Contains(errs.String(), "isolation lacks the layer root-folder") || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("status %d, %q", status, errs.String())
	}

	s := startDev(t, data)
	defer s.stop()
	kept, err := readCredentials(credentialsFile(data))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(kept.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var now struct {
		Ready     bool
		Isolation []struct {
			Layer string
			Holds bool
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&now); err != nil || !now.Ready || len(now.Isolation) < 10 {
		t.Fatalf("%+v, %v", now, err)
	}
	for _, l := range now.Isolation {
		if f, ok := checks[l.Layer]; !ok || f.OK != l.Holds {
			t.Errorf("%+v, but doctor says %+v", l, f)
		}
	}
}

func TestDoctorCountsConnections(t *testing.T) {
	t.Setenv("PICLOUD_DATABASE_URL", coretest.URL(t))
	_, _, checks := diagnose(t, "--data", t.TempDir())
	if f := checks["database"]; !f.OK || !strings.Contains(f.Found, "with connections for ") {
		t.Errorf("%+v", f)
	}
}
