// Package config holds the settings of a node: what they mean, their defaults, and where they come from. It stands beside
// the line: cmd loads it, node hands the values to the parts.
//
// A setting has one name in three spellings: max_body in the file, PICLOUD_MAX_BODY in the environment, --max-body on the
// command line. A wrong value stops the start: a node that runs with other settings than it was given is worse than none.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/guard"
	"github.com/picloud/picloud/sdk/mail"
)

// Config is what a node runs with. The tag is the name of the setting; fields without one are set by the program.
type Config struct {
	// DataDir is the folder for what the node keeps beside the database, and for the local database itself where no
	// DatabaseURL is given. It is made if it is missing. Empty: the command chooses one.
	DataDir string `koanf:"data"`

	// Listen is host:port of the public listener, which serves the routes of scripts. Without a host: all addresses.
	Listen string `koanf:"listen"`

	// AdminListen is host:port of the admin listener, which serves the control API. Whoever reaches it still needs a token.
	AdminListen string `koanf:"admin_listen"`

	// DatabaseURL is a connection string as libpq takes it. It may contain a password, so it comes from the environment,
	// from a file named by the environment, or from the configuration file, but never from a flag: every user of the
	// machine can read those. Empty: the node runs a server of its own in DataDir.
	DatabaseURL string `koanf:"database_url"`

	// SecretKey closes the keys that secrets of apps are sealed with: 32 bytes in base64. Several, separated by commas, are
	// the one that closes them from the next rotation on, and those that may have closed them before. It comes from where
	// DatabaseURL comes from. Empty: the node keeps no secrets; `picloud dev` makes one in DataDir.
	SecretKey string `koanf:"secret_key"`

	// PostgresBin is the folder that holds initdb and postgres, for the server that the node runs itself. Empty: the
	// usual places are searched.
	PostgresBin string `koanf:"postgres_bin"`

	// FilesDir is the folder of the contents of apps' files, which all nodes of a database must share. Empty: "files" in DataDir, which is
	// right for one node.
	FilesDir string `koanf:"files_dir"`

	// NodeName is what people call this node, in logs and lists. Default: the machine's host name.
	NodeName string `koanf:"node_name"`

	// CatchAll has the app "default" answer for every host that no other app claims. Once claimed, a host stays claimed
	// until the claim is deleted. Default: the app answers for this machine's own names.
	CatchAll bool `koanf:"catch_all"`

	// Slots is how many runs of scripts may be in progress at a time. Default 32; 1 to 4096.
	Slots int `koanf:"slots"`

	// SyncWaiting is how many callers may wait for a slot, each for a second at most; more are turned away at once.
	// Default 1024; 0 to 65536.
	SyncWaiting int `koanf:"sync_waiting"`

	// MaxBacklog is how many events of one app may wait; more are refused with 429. Default 100000; 1 to 100 million.
	MaxBacklog int `koanf:"max_backlog"`

	// MaxBacklogBytes is how large those may be together. Default 256 MiB; at least 1 MiB.
	MaxBacklogBytes int64 `koanf:"max_backlog_bytes"`

	// KeepDeadLetters is how long dead letters are kept, open ones too. Nodes of one database should agree: the shortest
	// holds. Default 720h (30 days); 1h to 8784h (366 days).
	KeepDeadLetters time.Duration `koanf:"keep_dead_letters"`

	// KeepExecutions is how long the records of runs are kept, with their logs. Nodes of one database should agree: the
	// shortest holds. Default 168h (7 days); 24h to 8784h (366 days).
	KeepExecutions time.Duration `koanf:"keep_executions"`

	// MaxHistoryBytes is how much the records and kept answers of one app may take over that time. Each day has an equal share; beyond half of
	// it, one success of ten is recorded, and beyond all of it neither successes nor answers are kept. Default 1 GiB; at least 1 MiB.
	MaxHistoryBytes int64 `koanf:"max_history_bytes"`

	// MaxBody is how many bytes the body of a request may have. Default and most: 6291456 (6 MiB).
	MaxBody int64 `koanf:"max_body"`

	// MaxScriptMemory is how many bytes of memory a run of a script may be allowed. Default and most: 469762048 (448 MiB).
	MaxScriptMemory int64 `koanf:"max_script_memory"`

	// MaxScriptCPU is how much processor time a run may be allowed. Default and most: 5m.
	MaxScriptCPU time.Duration `koanf:"max_script_cpu"`

	// MaxScriptGoroutines is how many goroutines a run may be allowed. Default and most: 10000.
	MaxScriptGoroutines int `koanf:"max_script_goroutines"`

	// MaxScriptAnswer is how many bytes the answer of a run may be allowed. Default and most: 67108864 (64 MiB).
	MaxScriptAnswer int64 `koanf:"max_script_answer"`

	// MaxScriptLogLines is how many lines a run may be allowed to log. Default and most: 10000.
	MaxScriptLogLines int `koanf:"max_script_log_lines"`

	// MaxScriptLogBytes is how many bytes a run may be allowed to log. Default and most: 1048576 (1 MiB).
	MaxScriptLogBytes int `koanf:"max_script_log_bytes"`

	// MaxScriptCalls is how many calls of services a run may be allowed. Default and most: 100000.
	MaxScriptCalls int `koanf:"max_script_calls"`

	// HTTPAllow is what scripts may reach beside public addresses at the ports 80 and 443: a list, separated by commas, of
	// host:port, whatever address the host has, and of prefixes such as 10.1.0.0/16, with all their ports. What the node
	// itself listens on is never reached. Default: nothing.
	HTTPAllow string `koanf:"http_allow"`

	// SMTPHost is the mail server that e-mail of scripts is handed to. Empty: scripts cannot send e-mail. It may be inside: no script
	// chooses it.
	SMTPHost string `koanf:"smtp_host"`

	// SMTPPort is its port. Default 0: 587, 465 where SMTPTLS is tls, 25 where it is none.
	SMTPPort int `koanf:"smtp_port"`

	// SMTPUser is who the node is to the mail server. Empty: nobody.
	SMTPUser string `koanf:"smtp_user"`

	// SMTPPassword goes with SMTPUser. It comes from where DatabaseURL comes from.
	SMTPPassword string `koanf:"smtp_password"`

	// SMTPTLS is starttls, tls from the beginning of the connection, or none. Default starttls, without which nothing is sent.
	SMTPTLS string `koanf:"smtp_tls"`

	// SMTPFrom is who e-mail is from that does not say, such as "PiCloud <picloud@example.com>". It goes with SMTPHost.
	SMTPFrom string `koanf:"smtp_from"`

	// EngineSpares is how many blank processes are ready of each engine that an active script uses. Default 1; 0 to 64.
	EngineSpares int `koanf:"engine_spares"`

	// EngineIdle is how long an engine process without runs is kept. Default 5m; 1s to 24h.
	EngineIdle time.Duration `koanf:"engine_idle"`

	// EngineRuns is after how many runs an engine process is replaced. Default 1000000; at least 100.
	EngineRuns int64 `koanf:"engine_runs"`

	// EngineMemory is how many bytes of memory of its own an engine process may have before it is replaced. Default 256 MiB;
	// 32 MiB to 1 GiB, at which it dies.
	EngineMemory int64 `koanf:"engine_memory"`

	// EngineAge is how old an engine process may be before it is replaced. Default 24h; 1m to 8784h (366 days).
	EngineAge time.Duration `koanf:"engine_age"`

	// EngineLosses is how often within ten minutes, under different events, a version of a script may end a process that
	// runs nothing else, before it is quarantined. Default 3; 1 to 1000.
	EngineLosses int `koanf:"engine_losses"`

	// Drain is how long a node that was told to stop lets runs in progress go on. Default 30s; 0 to 10m.
	Drain time.Duration `koanf:"drain"`

	// RequireIsolation has the node refuse to start unless every layer of isolation holds for the processes that run scripts.
	// Default: it starts with those that the machine has, and says which it lacks.
	RequireIsolation bool `koanf:"require_isolation"`

	// LogLevel is the least important level that is logged: trace, debug, info, warn, error or off. Default info.
	LogLevel string `koanf:"log_level"`

	// LogFormat is text, for people, or json, one object a line. Default text.
	LogFormat string `koanf:"log_format"`

	// Dev has the node explain itself: a script that greets on /, and the words of a failed script in the answer to its
	// caller.
	Dev bool

	// PluginCommand starts a built-in plugin, whose name is appended. The program is a setting of the caller's since in
	// tests the running executable is not picloud.
	PluginCommand []string

	// PluginLayers are the layers of isolation that plugins are to have. nil: all. In tests engines report over the network.
	PluginLayers []string
}

// MaxBodyLimit is the largest MaxBody: what an event may carry.
const MaxBodyLimit = 6 << 20

// Default returns the settings that hold where nothing else is said.
func Default() Config {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "picloud"
	}
	most := tenant.MaxLimits()
	return Config{
		Listen:      ":8080",
		AdminListen: "127.0.0.1:8081",
		NodeName:    name,
		Slots:       32,
		SyncWaiting: 1024,

		MaxBacklog:          100_000,
		MaxBacklogBytes:     256 << 20,
		KeepDeadLetters:     30 * 24 * time.Hour,
		KeepExecutions:      7 * 24 * time.Hour,
		MaxHistoryBytes:     1 << 30,
		MaxBody:             MaxBodyLimit,
		MaxScriptMemory:     most.MemoryBytes,
		MaxScriptCPU:        time.Duration(most.CPU),
		MaxScriptGoroutines: most.Goroutines,
		MaxScriptAnswer:     most.AnswerBytes,
		MaxScriptLogLines:   most.LogLines,
		MaxScriptLogBytes:   most.LogBytes,
		MaxScriptCalls:      most.Calls,
		SMTPTLS:             "starttls",
		EngineSpares:        1,
		EngineIdle:          5 * time.Minute,
		EngineRuns:          1_000_000,
		EngineMemory:        256 << 20,
		EngineAge:           24 * time.Hour,
		EngineLosses:        3,
		Drain:               30 * time.Second,
		LogLevel:            "info",
		LogFormat:           "text",
	}
}

// invalid is a value that a setting cannot have.
type invalid struct{ key, message string }

func (e *invalid) Error() string { return e.message }

// validate returns *invalid for the first setting whose value makes no sense.
func (c *Config) validate() error {
	most := tenant.MaxLimits()
	checks := []struct {
		key string
		err error
	}{
		{"listen", checkAddress(c.Listen)},
		{"admin_listen", checkAddress(c.AdminListen)},
		{"node_name", checkName(c.NodeName)},
		{"secret_key", checkSecretKey(c.SecretKey)},
		{"slots", checkRange(int64(c.Slots), 1, 4096)},
		{"sync_waiting", checkRange(int64(c.SyncWaiting), 0, 65536)},
		{"max_backlog", checkRange(int64(c.MaxBacklog), 1, 100_000_000)},
		{"max_backlog_bytes", checkRange(c.MaxBacklogBytes, 1<<20, 1<<50)},
		{"keep_dead_letters", checkDuration(c.KeepDeadLetters, time.Hour, 366*24*time.Hour)},
		{"keep_executions", checkDuration(c.KeepExecutions, 24*time.Hour, 366*24*time.Hour)},
		{"max_history_bytes", checkRange(c.MaxHistoryBytes, 1<<20, 1<<50)},
		{"max_body", checkRange(c.MaxBody, 1, MaxBodyLimit)},
		{"max_script_memory", checkRange(c.MaxScriptMemory, 1<<20, most.MemoryBytes)},
		{"max_script_cpu", checkDuration(c.MaxScriptCPU, time.Millisecond, time.Duration(most.CPU))},
		{"max_script_goroutines", checkRange(int64(c.MaxScriptGoroutines), 1, int64(most.Goroutines))},
		{"max_script_answer", checkRange(c.MaxScriptAnswer, 1, most.AnswerBytes)},
		{"max_script_log_lines", checkRange(int64(c.MaxScriptLogLines), 1, int64(most.LogLines))},
		{"max_script_log_bytes", checkRange(int64(c.MaxScriptLogBytes), 1, int64(most.LogBytes))},
		{"max_script_calls", checkRange(int64(c.MaxScriptCalls), 1, int64(most.Calls))},
		{"http_allow", checkAllowed(c.HTTPAllow)},
		{"smtp_port", checkRange(int64(c.SMTPPort), 0, 65535)},
		{"smtp_tls", checkOneOf(c.SMTPTLS, "starttls", "tls", "none")},
		{"smtp_from", c.checkSender()},
		{"smtp_user", c.checkLogin()},
		{"engine_spares", checkRange(int64(c.EngineSpares), 0, 64)},
		{"engine_idle", checkDuration(c.EngineIdle, time.Second, 24*time.Hour)},
		{"engine_runs", checkRange(c.EngineRuns, 100, 1<<50)},
		{"engine_memory", checkRange(c.EngineMemory, 32<<20, 1<<30)},
		{"engine_age", checkDuration(c.EngineAge, time.Minute, 366*24*time.Hour)},
		{"engine_losses", checkRange(int64(c.EngineLosses), 1, 1000)},
		{"drain", checkDuration(c.Drain, 0, 10*time.Minute)},
		{"log_level", checkLevel(c.LogLevel)},
		{"log_format", checkOneOf(c.LogFormat, "text", "json")},
	}
	for _, check := range checks {
		if check.err != nil {
			return &invalid{check.key, check.err.Error()}
		}
	}
	return nil
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:8080 or :8080", address)
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is not 1 to 253 bytes without spaces", name)
	}
	return nil
}

func checkRange(n, least, most int64) error {
	if n < least || n > most {
		return fmt.Errorf("%d is not between %d and %d", n, least, most)
	}
	return nil
}

func checkDuration(d, least, most time.Duration) error {
	if d < least || d > most {
		return fmt.Errorf("%s is not between %s and %s", d, least, most)
	}
	return nil
}

func checkAllowed(list string) error {
	_, err := guard.ParseAllowed(list)
	return err
}

// checkSender says what is wrong with who e-mail is from.
func (c *Config) checkSender() error {
	switch {
	case c.SMTPHost == "" && c.SMTPFrom != "":
		return errors.New("has no effect without smtp_host")
	case c.SMTPHost != "" && c.SMTPFrom == "":
		return errors.New("is missing: who e-mail is from, where smtp_host says to whom it goes")
	case c.SMTPFrom != "":
		return mail.CheckAddress(c.SMTPFrom)
	}
	return nil
}

func (c *Config) checkLogin() error {
	if (c.SMTPUser == "") != (c.SMTPPassword == "") {
		return errors.New("and smtp_password belong together")
	}
	return nil
}

func checkSecretKey(keys string) error {
	_, err := secret.ParseMasters(keys)
	return err
}

func checkLevel(level string) error {
	if hclog.LevelFromString(level) == hclog.NoLevel {
		return checkOneOf(level, "trace", "debug", "info", "warn", "error", "off")
	}
	return nil
}

func checkOneOf(value string, words ...string) error {
	for _, word := range words {
		if value == word {
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(words, ", "))
}
