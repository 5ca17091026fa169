package wasm_test

import (
	"encoding/binary"
	"slices"
)

// The code of a module that tests make by hand is bytes. These are the instructions that they are made of.

func code(parts ...[]byte) []byte { return slices.Concat(parts...) }

var (
	end         = []byte{0x0b}
	drop        = []byte{0x1a}
	unreachable = []byte{0x00}
	loop        = []byte{0x03, 0x40}
	again       = []byte{0x0c, 0} // a branch to the innermost loop
	forever     = code(loop, again, end)
)

func signed(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		if v >>= 7; v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func number(v int) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// i is i32.const.
func i(values ...int) (b []byte) {
	for _, v := range values {
		b = signed(append(b, 0x41), int64(int32(uint32(v))))
	}
	return b
}

func call(f int) []byte { return append([]byte{0x10}, number(f)...) }
func get(v int) []byte  { return append([]byte{0x20}, number(v)...) }
func set(v int) []byte  { return append([]byte{0x21}, number(v)...) }

// grow is memory.grow, of so many pages.
func grow(pages int) []byte { return code(i(pages), []byte{0x40, 0}) }

// import of a function whose parameters and results are all of type i32.
type imported struct {
	module, name    string
	params, results int
}

// function is a function of the module, without results; export may be empty.
type function struct {
	export string
	params int
	locals int
	code   []byte
}

// module is a module with a memory of 64 KB that begins with data. Functions are numbered from the imports on.
type module struct {
	imports   []imported
	functions []function
	data      string
	pages     int  // of the memory at first, 1 if zero
	start     int  // a function; zero: none
	bare      bool // without a memory
	table     []byte
}

func name(s string) []byte { return append(number(len(s)), s...) }

func (m module) bytes() []byte {
	list := func(id byte, entries ...[]byte) []byte {
		if len(entries) == 0 {
			return nil
		}
		b := append(number(len(entries)), slices.Concat(entries...)...)
		return code([]byte{id}, number(len(b)), b)
	}
	kind := func(params, results int) []byte {
		types := func(n int) []byte { return append(number(n), slices.Repeat([]byte{0x7f}, n)...) }
		return code([]byte{0x60}, types(params), types(results))
	}
	var types, imports, functions, exports, bodies [][]byte
	for n, x := range m.imports {
		types = append(types, kind(x.params, x.results))
		imports = append(imports, code(name(x.module), name(x.name), []byte{0}, number(n)))
	}
	for n, f := range m.functions {
		index := number(n + len(m.imports))
		types = append(types, kind(f.params, 0))
		functions = append(functions, index)
		if f.export != "" {
			exports = append(exports, code(name(f.export), []byte{0}, index))
		}
		body := code([]byte{1}, number(f.locals), []byte{0x7f}, f.code, end)
		bodies = append(bodies, code(number(len(body)), body))
	}
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(b, list(1, types...)...)
	b = append(b, list(2, imports...)...)
	b = append(b, list(3, functions...)...)
	if m.table != nil {
		b = append(b, list(4, m.table)...)
	}
	if !m.bare {
		b = append(b, list(5, code([]byte{0}, number(max(1, m.pages))))...)
		exports = append(exports, code(name("memory"), []byte{2, 0}))
	}
	b = append(b, list(7, exports...)...)
	if m.start > 0 {
		b = append(b, code([]byte{8}, number(len(number(m.start))), number(m.start))...)
	}
	b = append(b, list(10, bodies...)...)
	if m.data != "" {
		b = append(b, list(11, code([]byte{0}, i(0), end, name(m.data)))...)
	}
	return b
}
