//go:build wasip1

// Command attacks is a module that does, in the call whose parameter "attack" names it, what a script should not get away with.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/picloud/guest"
)

func init() { guest.Register(handle) }

func main() {}

func handle(ctx *picloud.Context) (any, error) {
	body := string(ctx.Request.Body)
	if body == "go" {
		return 1, nil
	}
	if n, err := strconv.Atoi(body); err == nil {
		sum := 0
		for i := range n + 1 {
			sum += i
		}
		return sum, nil
	}
	attack := attacks[ctx.Request.Param("attack")]
	if attack == nil {
		return nil, errors.New("there is no such attack")
	}
	return attack(ctx)
}

var (
	kept [][]byte
	text string
)

//go:noinline
func down(n int) int {
	if n < 0 {
		return 0
	}
	return down(n+1) + 1
}

var attacks = map[string]func(*picloud.Context) (any, error){
	"loop": func(*picloud.Context) (any, error) {
		for {
		}
	},
	"sort": func(*picloud.Context) (any, error) {
		sort.Slice([]int{3, 2, 1}, func(int, int) bool {
			for {
			}
		})
		return nil, nil
	},
	"recover": func(*picloud.Context) (any, error) {
		for {
			func() {
				defer func() { _ = recover() }()
				panic("again")
			}()
		}
	},
	"recursion": func(*picloud.Context) (any, error) { return down(1), nil },
	"closure": func(*picloud.Context) (any, error) {
		var f func(int) int
		f = func(n int) int {
			if n < 0 {
				return 0
			}
			return f(n+1) + 1
		}
		return f(1), nil
	},
	"goroutines": func(*picloud.Context) (any, error) {
		for {
			go func() { select {} }()
		}
	},
	"beside": func(*picloud.Context) (any, error) {
		go func() { panic("beside") }()
		select {}
	},
	"memory": func(*picloud.Context) (any, error) {
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	},
	"gigabytes": func(*picloud.Context) (any, error) {
		n := 16
		return len(make([]byte, n<<30)), nil
	},
	"channel": func(*picloud.Context) (any, error) { return <-make(chan int), nil },
	"sleep": func(*picloud.Context) (any, error) {
		time.Sleep(time.Hour)
		return nil, nil
	},
	"select": func(*picloud.Context) (any, error) { select {} },
	"string": func(*picloud.Context) (any, error) {
		for text = "x"; ; text += text {
		}
	},
	"log": func(ctx *picloud.Context) (any, error) {
		ctx.Log.Info(strings.Repeat("x", 8<<20))
		return 1, nil
	},
	"result": func(*picloud.Context) (any, error) { return strings.Repeat("x", 8<<20), nil },
	"exit": func(*picloud.Context) (any, error) {
		os.Exit(3)
		return nil, nil
	},
	"files": func(*picloud.Context) (any, error) {
		for _, path := range []string{"/etc/passwd", "/proc/self/environ", ".", "..", "/"} {
			if b, err := os.ReadFile(path); err == nil {
				return nil, fmt.Errorf("%s holds %d bytes", path, len(b))
			}
			if entries, err := os.ReadDir(path); err == nil {
				return nil, fmt.Errorf("%s holds %d files", path, len(entries))
			}
		}
		if err := os.WriteFile("/tmp/x", nil, 0o600); err == nil {
			return nil, errors.New("it may write")
		}
		return len(os.Environ()), nil
	},
	"sockets": func(*picloud.Context) (any, error) {
		_, err := net.Dial("tcp", "127.0.0.1:80")
		return nil, err
	},
	"processes": func(*picloud.Context) (any, error) { return exec.Command("/bin/true").Output() },
	"print": func(*picloud.Context) (any, error) {
		for {
			fmt.Println("flood")
		}
	},
	"unix": func(ctx *picloud.Context) (any, error) {
		_, err := net.Dial("unix", ctx.Request.Header("X-Socket"))
		return nil, err
	},
}
