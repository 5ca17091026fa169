package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// example is an example in one language, on a server.
type example struct {
	*instance
	dir, extension string
	beside         string            // URL of the program that its scripts reach
	sections       map[string]string // of its README, by their headings; "" is what stands before the first
}

func (n *instance) example(name, extension string) *example {
	n.t.Helper()
	x := &example{instance: n, dir: filepath.Join("examples", name), extension: extension, sections: map[string]string{}}
	readme, err := os.ReadFile(filepath.Join(x.dir, "README.md"))
	if err != nil {
		n.t.Fatal(err)
	}
	heading := ""
	for line := range strings.Lines(string(readme)) {
		if h, found := strings.CutPrefix(line, "## "); found {
			heading = strings.TrimSpace(h)
		}
		x.sections[heading] += line
	}
	return x
}

// follow runs the commands of a section of the README, with the scripts of the language, and returns what curl was answered.
func (x *example) follow(heading string) (replies []reply) {
	x.t.Helper()
	commands := 0
	for line := range strings.Lines(x.sections[heading]) {
		command, found := strings.CutPrefix(line, "    ")
		if !found {
			continue
		}
		commands++
		args := words(x.t, strings.NewReplacer("http://localhost:8080", x.public, "http://localhost:9000", x.beside).Replace(command))
		for i, a := range args {
			a = strings.TrimSuffix(a, ".go")
			if a != args[i] {
				a += x.extension
			}
			if info, err := os.Stat(filepath.Join(x.dir, a)); err == nil && info.Mode().IsRegular() {
				args[i] = filepath.Join(x.dir, a)
			}
		}
		switch args[0] {
		case "picloud":
			x.command(args[1:]...)
		case "go":
			run := exec.CommandContext(x.t.Context(), "go", args[1:]...)
			run.Dir = x.dir
			if out, err := run.CombinedOutput(); err != nil {
				x.t.Fatalf("%v: %v: %s", args, err, out)
			}
		case "curl":
			replies = append(replies, x.curl(args[1:]))
		default:
			x.t.Fatalf("%s is no command that the tests understand", args[0])
		}
	}
	if commands == 0 {
		x.t.Fatalf("the README of %s has no commands under %q", x.dir, heading)
	}
	return replies
}

// curl does what curl would, as far as READMEs go.
func (x *example) curl(args []string) reply {
	x.t.Helper()
	method, body, url := http.MethodGet, []byte(nil), ""
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-X":
			i++
			method = args[i]
		case a == "-d":
			i++
			if body = []byte(args[i]); method == http.MethodGet {
				method = http.MethodPost
			}
		case a == "-i":
		case strings.HasPrefix(a, "-"):
			x.t.Fatalf("curl %s is more than the tests understand", a)
		default:
			url = a
		}
	}
	req, err := http.NewRequestWithContext(x.t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	r, err := x.do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	return r
}

// paymentProvider runs that of the orders.
func paymentProvider(t *testing.T) (address string, args []string) {
	t.Helper()
	address, _ = program(t, "orders/provider")
	return address, []string{"--http-allow", strings.TrimPrefix(address, "http://")}
}

// program runs a program of the examples, and returns the address that it prints first, and what it prints then.
func program(t *testing.T, name string) (address string, printed *bufio.Reader) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", file, "./"+name)
	build.Dir = "examples"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := exec.Command(file, "-listen", "127.0.0.1:0")
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill(); _ = run.Wait() }) // it does not end by itself
	printed = bufio.NewReader(out)
	line, err := printed.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), printed
}

// words divides a command line as a shell does, as far as READMEs go.
func words(t *testing.T, line string) (list []string) {
	t.Helper()
	var word strings.Builder
	quoted, begun := false, false
	for _, c := range strings.TrimSpace(line) {
		switch {
		case c == '\'':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		case !quoted && strings.ContainsRune("\"$\\|<>&", c):
			t.Fatalf("%q is more than the tests understand", line)
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	return append(list, word.String())
}

// inLanguages runs an example in each language that it has scripts in, on a server of its own. What runs beside it is a program that the
// server reaches: it returns its address, which READMEs know as http://localhost:9000, and what the server has to be told of it.
func inLanguages(t *testing.T, name string, try func(x *example), beside ...func(t *testing.T) (address string, args []string)) {
	t.Parallel()
	for language, extension := range map[string]string{"Go": ".go", "TypeScript": ".ts"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			s := setup{command: "dev", data: coretest.DataDir(t)}
			address := ""
			for _, run := range beside {
				address, s.args = run(t)
			}
			x := start(t, s).example(name, extension)
			x.beside = address
			try(x)
		})
	}
}

func TestExampleShortener(t *testing.T) {
	inLanguages(t, "shortener", func(n *example) {
		n.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		n.follow("")
		r := n.must(http.MethodPost, "/links", []byte(`{"url":"https://go.dev/ref/spec"}`))
		code := field(r.body, "code")
		if r.status != http.StatusCreated || len(code) != 8 {
			n.t.Fatal(r)
		}
		for range 3 {
			if r := n.must(http.MethodGet, "/l/"+code, nil); r.status != http.StatusFound || r.header.Get("Location") != "https://go.dev/ref/spec" {
				n.t.Error(r)
			}
		}
		if r := n.must(http.MethodGet, "/links/"+code, nil); r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"visits":3`)) {
			n.t.Error(r)
		}
		for body, status := range map[string]int{`{"url":"ftp://x"}`: 400, `{}`: 400} {
			if r := n.must(http.MethodPost, "/links", []byte(body)); r.status != status {
				n.t.Errorf("%s: %s", body, r)
			}
		}
		if r := n.must(http.MethodGet, "/l/none", nil); r.status != http.StatusNotFound {
			n.t.Error(r)
		}
	})
}

func TestExampleFanout(t *testing.T) {
	inLanguages(t, "fanout", func(x *example) {
		x.follow("")
		holds := func(customer string, cents int) bool {
			r := x.must(http.MethodGet, "/ledger/"+customer, nil)
			return strings.Contains(string(r.body), fmt.Sprintf(`"cents":%d`, cents))
		}
		told := func() string {
			res, err := http.Get(x.beside)
			if err != nil {
				x.t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				x.t.Fatal(err)
			}
			return string(body)
		}
		for range 2 { // the service was not sure that it has arrived
			x.follow("A payment comes")
			await(x.t, "the payment is booked", func() bool { return holds("ada", 1200) })
		}
		pay := func(id, customer string, cents int) {
			x.t.Helper()
			run := exec.CommandContext(x.t.Context(), "go", "run", "./pay", x.public, id, customer, strconv.Itoa(cents))
			run.Dir = x.dir
			if out, err := run.CombinedOutput(); err != nil {
				x.t.Errorf("%v: %s", err, out)
			}
		}
		pay("pay_2", "ada", 300)
		pay("pay_3", "bob", 7)
		await(x.t, "all are booked", func() bool { return holds("ada", 1500) && holds("bob", 7) })
		await(x.t, "the partner was told of each once", func() bool {
			return strings.Count(told(), "pay_1") == 1 && strings.Count(told(), "payment.paid") >= 3 && strings.Contains(told(), "pay_3")
		})
		// Nothing is taken that is not signed.
		if r := x.with(http.MethodPost, "/.picloud/webhooks/payments", `{"type":"payment.paid","id":"x","customer":"eve","amount":1000000}`); r.status != http.StatusUnauthorized {
			x.t.Error(r)
		}
	}, func(t *testing.T) (address string, args []string) {
		address, _ = program(t, "fanout/partner")
		return address, []string{"--http-allow", strings.TrimPrefix(address, "http://")}
	})
}

func TestExampleOrders(t *testing.T) {
	inLanguages(t, "orders", func(x *example) {
		x.follow("")
		address := filepath.Join(x.t.TempDir(), "payment.url")
		if err := os.WriteFile(address, []byte(x.beside+"/pay"), 0o600); err != nil {
			x.t.Fatal(err)
		}
		x.command("secrets", "set", "PAYMENT_URL", "--file", address)
		stands := func(id, state string) (body []byte) {
			x.t.Helper()
			await(x.t, "the order "+id+" is "+state, func() bool {
				body = x.must(http.MethodGet, "/orders/"+id, nil).body
				return field(body, "state") == state
			})
			return body
		}
		if replies := x.follow("It goes well"); replies[0].status != http.StatusAccepted || replies[1].status != http.StatusOK {
			x.t.Fatal(replies)
		}
		if body := stands("1001", "paid"); field(body, "receipt") != "r-1001" || field(body, "item") != "desk" {
			x.t.Errorf("%s", body)
		}
		charges := func(n int) {
			x.t.Helper()
			await(x.t, fmt.Sprintf("%d charges are recorded", n), func() bool { return len(x.executions("charge")) >= n })
		}
		charges(1)
		x.follow("It goes well") // again, which nobody notices
		x.follow("It is refused")
		if body := stands("1002", "failed"); field(body, "why") != "fatal: the payment is refused" {
			x.t.Errorf("%s", body)
		}
		x.follow("It fails")
		if body := stands("1003", "failed"); field(body, "why") != "exhausted: the payment provider answers 503" {
			x.t.Errorf("%s", body)
		}
		x.follow("It is put back")
		if body := stands("1003", "paid"); field(body, "why") != "" || field(body, "receipt") != "r-1003" {
			x.t.Errorf("%s", body)
		}
		if body := x.must(http.MethodGet, "/orders/1001", nil).body; field(body, "receipt") != "r-1001" {
			x.t.Errorf("%s", body)
		}
		const all = 1 + 1 + 3 + 1 // paid, refused, given up, put back
		if charges(all); len(x.executions("charge")) != all {
			x.t.Errorf("charged %d times", len(x.executions("charge")))
		}
		for body, status := range map[string]int{`{"customer":"ada"}`: 400, `{"customer":"ada","item":"x","cents":-1}`: 400} {
			if r := x.must(http.MethodPut, "/orders/1004", []byte(body)); r.status != status {
				x.t.Errorf("%s: %s", body, r)
			}
		}
		if r := x.must(http.MethodGet, "/orders/1004", nil); r.status != http.StatusNotFound {
			x.t.Error(r)
		}
	}, paymentProvider)
}

func TestExampleReport(t *testing.T) {
	var mailbox sync.Map // by the test's name
	inLanguages(t, "report", func(x *example) {
		x.follow("")
		replies := x.follow("Do not wait for the night")
		const want = "product,sold,for\n\"desk, oak\",1,249.00\npear,1,2.50\nall,,251.50\n"
		if r := replies[0]; r.status != http.StatusOK || string(r.body) != want || r.header.Get("Content-Type") != "text/csv" {
			x.t.Error(r)
		}
		sent, _ := mailbox.Load(x.t.Name())
		bodies := map[string]string{} // by subject: two reports are on their way
		for range 2 {
			message, err := mail.ReadMessage(untilLine(sent.(*bufio.Reader), "--"))
			if err != nil {
				x.t.Fatal(err)
			}
			body, err := io.ReadAll(message.Body)
			if h := message.Header; err != nil || h.Get("To") != "<owner@example.com>" || h.Get("From") != "<reports@example.com>" {
				x.t.Errorf("%v %v", h, err)
			}
			bodies[message.Header.Get("Subject")] = string(body)
		}
		if body := bodies["Sales of 2026-01-31"]; len(bodies) != 2 || !strings.Contains(body, "251.50 were sold on 2026-01-31.") ||
			!strings.Contains(body, "sales-2026-01-31.csv") {
			x.t.Error(bodies)
		}
		if r := x.must(http.MethodGet, "/reports/2026-02-30", nil); r.status != http.StatusNotFound {
			x.t.Error(r)
		}
		if r := x.must(http.MethodPost, "/sales", []byte(`{"product":"pear"}`)); r.status != http.StatusBadRequest {
			x.t.Error(r)
		}
	}, func(t *testing.T) (string, []string) {
		address, printed := program(t, "report/mailbox")
		mailbox.Store(t.Name(), printed)
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return address, []string{"--smtp-host", host, "--smtp-port", port, "--smtp-tls", "none", "--smtp-from", "reports@example.com"}
	})
}

// untilLine reads what stands before a line.
func untilLine(r *bufio.Reader, end string) io.Reader {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimSpace(line) == end {
			return strings.NewReader(text.String())
		}
		text.WriteString(line)
	}
}

// gradient is a picture whose colours tell where one is, as PNG.
func gradient(t *testing.T, width, height int, opaque bool) []byte {
	t.Helper()
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.NRGBA{R: uint8(x * 255 / width), G: uint8(y * 255 / height), B: uint8(x ^ y), A: 255}
			if !opaque {
				c.A = uint8(255 - x*128/width)
			}
			picture.SetNRGBA(x, y, c)
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestExampleThumbnails(t *testing.T) {
	inLanguages(t, "thumbnails", func(x *example) {
		x.follow("")
		if underRace { // a run takes seconds then, and on a busy machine more than half a minute
			x.command("deploy", filepath.Join(x.dir, "thumbnail"+x.extension), "--timeout", "5m")
		}
		keep := func(picture []byte) (id string) {
			x.t.Helper()
			r := x.must(http.MethodPost, "/pictures", picture)
			if id = field(r.body, "id"); r.status != http.StatusCreated || id == "" {
				x.t.Fatal(r)
			}
			return id
		}
		for name, c := range map[string]struct {
			width, height int
			opaque        bool
			to            image.Point
		}{
			"wide": {256, 64, true, image.Pt(128, 32)}, "high, seen through": {50, 200, false, image.Pt(32, 128)},
			"small": {80, 40, true, image.Pt(80, 40)}, "a line": {300, 1, false, image.Pt(128, 1)},
		} {
			id := keep(gradient(x.t, c.width, c.height, c.opaque))
			var r reply
			await(x.t, "the thumbnail is there", func() bool {
				r = x.must(http.MethodGet, "/pictures/"+id+"/thumbnail", nil)
				return r.status != http.StatusNotFound
			})
			thumbnail, err := png.Decode(bytes.NewReader(r.body))
			if err != nil || r.header.Get("Content-Type") != "image/png" || thumbnail.Bounds().Size() != c.to {
				x.t.Fatalf("%s: %v %v", name, r, err)
			}
			for _, at := range []image.Point{{0, 0}, {c.to.X / 2, c.to.Y / 2}, {c.to.X - 1, c.to.Y - 1}} {
				got := color.NRGBAModel.Convert(thumbnail.At(at.X, at.Y)).(color.NRGBA)
				red, green := (2*at.X+1)*255/(2*c.to.X), (2*at.Y+1)*255/(2*c.to.Y)
				if c.to.Y == 1 {
					green = 0
				}
				alpha := 255
				if !c.opaque {
					alpha -= (2*at.X + 1) * 128 / (2 * c.to.X)
				}
				if off(int(got.R), red) > 8 || off(int(got.G), green) > 8 || off(int(got.A), alpha) > 8 {
					x.t.Errorf("%s at %v: %v, not about %d %d _ %d", name, at, got, red, green, alpha)
				}
			}
		}

		// What says that it is larger than it may be is refused before it is decoded, and so is what is no picture.
		bomb := gradient(x.t, 1, 1, true)
		binary.BigEndian.PutUint32(bomb[16:], 50_000)
		binary.BigEndian.PutUint32(bomb[20:], 50_000)
		binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
		for name, c := range map[string]struct {
			body   []byte
			status int
		}{"a bomb": {bomb, http.StatusRequestEntityTooLarge}, "a text": {[]byte("no picture"), 415}, "nothing": {nil, 415}} {
			if r := x.must(http.MethodPost, "/pictures", c.body); r.status != c.status {
				x.t.Errorf("%s: %s", name, r)
			}
		}
		// One that is cut off has no thumbnail, and is not tried again.
		picture := gradient(x.t, 100, 100, true)
		keep(picture[:len(picture)/2])
		await(x.t, "it is given up", func() bool {
			letters := x.command("dead-letters", "ls", "--script", "thumbnail")
			return strings.Contains(letters, `"attempts": 1`) && strings.Contains(letters, `"reason": "fatal"`)
		})
		if r := x.must(http.MethodGet, "/pictures/none/thumbnail", nil); r.status != http.StatusNotFound {
			x.t.Error(r)
		}
	})
}

func off(a, b int) int { return max(a-b, b-a) }
