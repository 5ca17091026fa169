// Command mailbox plays a mail server, at localhost:1025, that prints what it is sent.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"net/textproto"
	"strings"
)

func main() {
	listen := flag.String("listen", "localhost:1025", "`address` to listen at")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(c)
	}
}

// serve takes messages as RFC 5321 says, as far as it takes to take all of them.
func serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := textproto.NewReader(bufio.NewReader(c))
	say := func(line string) { fmt.Fprintf(c, "%s\r\n", line) }
	say("220 mailbox")
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		switch command, _, _ := strings.Cut(strings.ToUpper(line), " "); command {
		case "EHLO", "HELO":
			say("250 mailbox")
		case "DATA":
			say("354 go on")
			text, err := in.ReadDotBytes()
			if err != nil {
				return
			}
			fmt.Printf("%s\n--\n", text)
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
