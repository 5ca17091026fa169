package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// What is exported from every module beside its own exports.
const (
	stopName  = "picloud: stop"  // a global; what is not zero ends the run
	startName = "picloud: start" // the start function, to be called like any other
)

// maxTable bounds the tables of a module, in elements of eight bytes: they are not part of its memory.
const maxTable = 1 << 20

// A look costs fuel, and after so much of it the code leaves for a moment: the Go runtime cannot interrupt compiled code, and would wait
// for it whenever it collects garbage, with all else standing still. What works on much memory costs more.
const (
	fuel      = 4095
	largeFuel = 63 // as all of these a number that signed and unsigned encodings write alike
)

// instrument makes a module that can be stopped: at the beginning of every function, of each round of every loop, and before
// each instruction that works on much memory, it counts down a global. At zero it calls a function that leaves the compiled code, by growing the
// memory by nothing, and then traps if another global is set: that is how the host stops it. The compiler's own way
// (wazero.RuntimeConfig.WithCloseOnContextDone) leaves the code in each round of a loop, which takes 25 ns: 10^8 rounds take
// 2.5 s instead of 0.1 s, a handler of JSON 180 µs instead of 42. It also never looks where a function calls itself without a loop.
//
// The start function becomes an export, since an instance cannot be stopped before it is there. Tables get a bound. The result is
// validated by the compiler like any module.
func instrument(module []byte) (instrumented []byte, started bool, err error) {
	sections, err := split(module)
	if err != nil {
		return nil, false, err
	}
	var in [4]uint32 // imports by kind: functions, tables, memories, globals; a module's own are numbered from there
	kept := sections[:0]
	var exports []byte
	exported := func(name string, kind byte, index []byte) {
		exports = append(append(append(append(exports, byte(len(name))), name...), kind), index...)
	}
	for _, s := range sections {
		switch s.id {
		case sectionImport:
			if in, err = imports(s.data); err != nil {
				return nil, false, err
			}
		case sectionStart:
			started = true
			exported(startName, 0, s.data)
			continue
		}
		kept = append(kept, s)
	}
	sections = kept
	add := func(id byte, n uint32, entries ...byte) (had uint32) {
		var s *section
		sections, s = find(sections, id)
		had, failed := s.extend(n, entries)
		err = errors.Join(err, failed)
		return had
	}
	kind := add(sectionType, 1, 0x60, 0, 0)
	check := appendNumber(nil, in[0]+add(sectionFunction, 1, appendNumber(nil, kind)...))
	variables := in[3] + add(sectionGlobal, 2, 0x7f, 1, 0x41, 0, 0x0b, 0x7f, 1, 0x41, 0, 0x0b) // both of type i32, zero at first
	left, stop := appendNumber(nil, variables), appendNumber(nil, variables+1)
	exported(stopName, 3, stop)
	more := uint32(1)
	if started {
		more++
	}
	add(sectionExport, more, exports...)
	if in[2] == 0 && !slices.ContainsFunc(sections, func(s section) bool { return s.id == sectionMemory }) {
		add(sectionMemory, 1, 0, 0)
	}
	if err != nil {
		return nil, false, err
	}
	for i := range sections {
		s := &sections[i]
		switch s.id {
		case sectionTable:
			s.data, err = boundTables(s.data)
		case sectionCode:
			s.data, err = checkpoints(s.data, countDown(left, check, 1), countDown(left, check, largeFuel))
		}
		if err != nil {
			return nil, false, err
		}
	}
	body := concat([]byte{0, 0x41}, appendNumber(nil, fuel), []byte{0x24}, left, // no locals; left = fuel
		[]byte{0x41, 0, 0x40, 0, 0x1a, 0x23}, stop, []byte{0x04, 0x40, 0x00, 0x0b, 0x0b}) // memory.grow 0; if stop { trap }
	add(sectionCode, 1, append(appendNumber(nil, uint32(len(body))), body...)...)
	return join(sections), started, err
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// countDown is the code of a look.
func countDown(left, check []byte, cost uint32) []byte {
	return concat([]byte{0x23}, left, []byte{0x41}, []byte{byte(cost)}, []byte{0x6b, 0x24}, left, // left -= cost
		[]byte{0x23}, left, []byte{0x41, 0, 0x48, 0x04, 0x40, 0x10}, check, []byte{0x0b}) // if left < 0 { check() }
}

// imports counts what a module imports, by kind.
func imports(data []byte) (n [4]uint32, err error) {
	r := reader{rest: data}
	for range r.number() {
		r.name()
		r.name()
		kind := r.byte()
		switch kind {
		case 0:
			r.number()
		case 1:
			r.byte()
			r.limits()
		case 2:
			r.limits()
		case 3:
			r.take(2)
		default:
			r.fail(fmt.Errorf("an import is of kind %d, which is unknown", kind))
		}
		if r.err != nil {
			return n, r.err
		}
		n[kind]++
	}
	return n, nil
}

func boundTables(data []byte) ([]byte, error) {
	r := reader{rest: data}
	count := r.number()
	out := appendNumber(nil, count)
	for range count {
		kind := r.byte()
		least, most, bounded := r.limits()
		switch {
		case r.err != nil:
			return nil, r.err
		case kind != 0x70 && kind != 0x6f:
			return nil, fmt.Errorf("a table is of type %#x, which is not supported", kind)
		case least > maxTable:
			return nil, fmt.Errorf("a table has %d elements, more than %d", least, maxTable)
		case !bounded || most > maxTable:
			most = maxTable
		}
		out = appendNumber(appendNumber(append(out, kind, 1), least), most)
	}
	return append(out, r.rest...), nil
}

// checkpoints adds looks to all functions.
func checkpoints(data, check, checkLarge []byte) ([]byte, error) {
	r := reader{rest: data}
	count := r.number()
	out := appendNumber(make([]byte, 0, len(data)+len(data)/8), count)
	var body []byte
	for i := range count {
		in := reader{rest: r.take(int(r.number()))}
		body = body[:0]
		all := in.rest
		for range in.number() { // groups of locals
			in.number()
			in.skip()
			if in.err != nil {
				break
			}
		}
		body = append(append(body, all[:len(all)-len(in.rest)]...), check...)
		for len(in.rest) > 0 {
			before := in.rest
			loop, large := in.instruction()
			if large {
				body = append(body, checkLarge...)
			}
			body = append(body, before[:len(before)-len(in.rest)]...)
			if loop {
				body = append(body, check...)
			}
		}
		if r.err == nil {
			r.err = in.err
		}
		if r.err != nil {
			return nil, fmt.Errorf("the code of function %d: %w", i, r.err)
		}
		out = append(appendNumber(out, uint32(len(body))), body...)
	}
	return append(out, r.rest...), nil
}

// instruction passes over an instruction, and says whether it begins a loop and whether it may work on much memory.
func (r *reader) instruction() (loop, large bool) {
	switch op := r.byte(); {
	case op == 0x02, op == 0x04: // block, if
		r.skip()
	case op == 0x03: // loop
		r.skip()
		return true, false
	case op == 0x0e: // br_table
		for range r.number() {
			if r.skip(); r.err != nil {
				break
			}
		}
		r.skip()
	case op == 0x11, op >= 0x28 && op <= 0x3e: // call_indirect; loads and stores
		r.skip()
		r.skip()
	case op == 0x1c: // select with types
		r.take(int(r.number()))
	case op == 0x0c, op == 0x0d, op == 0x10, op >= 0x20 && op <= 0x26, op >= 0x3f && op <= 0x42, op == 0xd0, op == 0xd2:
		r.skip() // br, br_if, call, variables, tables, memory.size, memory.grow, integers, ref.null, ref.func
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op <= 0x01, op == 0x05, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
		// unreachable, nop, else, end, return, drop, select; arithmetic; ref.is_null
	case op == 0xfc:
		return false, r.bulk()
	case op == 0xfd:
		r.vector()
	default:
		r.fail(fmt.Errorf("the instruction %#x is not supported", op))
	}
	return false, false
}

func (r *reader) bulk() (large bool) {
	switch op := r.number(); op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // conversions
		return false
	case 9, 13, 15, 16: // data.drop, elem.drop, table.grow, table.size
		r.skip()
		return op == 15
	case 11, 17: // memory.fill, table.fill
		r.skip()
	case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
		r.skip()
		r.skip()
	default:
		r.fail(fmt.Errorf("the instruction 0xfc %d is not supported", op))
	}
	return true
}

func (r *reader) vector() {
	switch op := r.number(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.skip()
		r.skip()
	case op == 12, op == 13: // v128.const, i8x16.shuffle
		r.take(16)
	case op >= 21 && op <= 34: // of one lane
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of one lane
		r.skip()
		r.skip()
		r.byte()
	}
}
