package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Reading a history: one pass over the lines, pairing invocations with completions and sorting
// operations by key. The format is that of harness/core/history.py, and so are the refusals: line
// order is the order of real time, and what breaks the format is named by its line, never guessed.

const maxLine = 64 << 20

// Types of events, and of operations once paired. An invocation without completion stays typInvoke.
const (
	typInvoke = iota
	typOk
	typFail
	typInfo
)

var typeNames = [...]string{"invoke", "ok", "fail", "info"}

const never = math.MaxInt32 // the line of a return that has not happened

// op is one operation: an invocation and what became of it.
type op struct {
	invoke, complete int64 // the events' `index` fields; complete only if ret != never
	start, end       int64 // their times in ns
	call, ret        int32 // their lines from 1: the order that everything is decided by
	process, node    int32 // ids of canonical texts
	value            int32 // what was asked; of a cas the value expected
	next             int32 // of a cas the new value
	result           int32 // what an ok read returned
	err              int32 // the completion's `error`, idNull for none
	key              int32
	f                fcode
	typ              uint8
}

// history is a file's operations, and for each key in order of appearance those on it.
type history struct {
	*table
	ops  []op
	keys []int32
	of   [][]int32
}

// badLine is a line that breaks the format or that the model cannot take.
type badLine struct {
	line    int
	problem string
}

func (e *badLine) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.problem) }

func openHistory(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(path, ".gz"):
		return gzip.NewReader(bufio.NewReaderSize(file, 1<<20))
	case strings.HasSuffix(path, ".zst"):
		z, err := zstd.NewReader(file, zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return file, nil
}

func readHistory(in io.Reader, m model) (*history, error) {
	r := reader{
		history: history{table: newTable()},
		model:   m,
		open:    map[int32]int32{},
		slot:    map[int32]int{},
		last:    math.MinInt64,
	}
	lines := bufio.NewReaderSize(in, 1<<16)
	var long []byte
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = long[:0]
			for errors.Is(err, bufio.ErrBufferFull) && len(long) < maxLine {
				long = append(long, line...)
				line, err = lines.ReadSlice('\n')
			}
			if len(long) >= maxLine {
				return nil, &badLine{number, fmt.Sprintf("longer than %d MiB; expected one JSON object", maxLine>>20)}
			}
			long = append(long, line...)
			line = long
		}
		if err != nil && err != io.EOF {
			return nil, &badLine{number, fmt.Sprintf("cannot be read: %v", err)}
		}
		if err == io.EOF && len(line) == 0 {
			return &r.history, nil
		}
		if number >= never {
			return nil, &badLine{number, "a history may have 2^31-2 lines"}
		}
		if problem := r.line(line, int32(number)); problem != nil {
			return nil, &badLine{number, problem.Error()}
		}
	}
}

// event is one line, taken apart; the byte slices live until the next line.
type event struct {
	index, time int64
	process     []byte
	typ         int
	f           []byte
	value       []byte
	ends        []int // of an array in value: the offset after each element
	key, node   []byte
	err         []byte
}

type reader struct {
	history
	model model
	open  map[int32]int32 // process -> its open operation
	slot  map[int32]int   // key -> its place in keys
	last  int64
	e     event
	buf   [8][]byte
}

const (
	fieldIndex = iota
	fieldTime
	fieldProcess
	fieldType
	fieldF
	fieldValue
	fieldKey
	fieldNode
	fieldError
	fieldExt
	fieldOther
)

var fieldNames = [...]string{"index", "time", "process", "type", "f", "value", "key", "node", "error", "ext"}

const required = "index, time, process, type, f, value"

func field(name []byte) int {
	for i, known := range fieldNames {
		if string(name[1:len(name)-1]) == known {
			return i
		}
	}
	return fieldOther
}

// parse takes one line apart.
func (r *reader) parse(line []byte) error {
	s := scanner{b: line}
	if s.peek() == 0 {
		return errors.New("an empty line; expected one JSON object")
	}
	if s.peek() != '{' {
		return fmt.Errorf("found %q; expected one JSON object with %s", s.peek(), required)
	}
	s.i++
	e := &r.e
	*e = event{ends: e.ends[:0]}
	seen := 0
	for s.peek() != '}' {
		if seen != 0 {
			if err := s.expect(',', "between fields"); err != nil {
				return err
			}
		}
		if s.peek() != '"' {
			return s.expect('"', "where a field's name begins")
		}
		name, err := s.str(r.buf[7][:0])
		r.buf[7] = name
		if err != nil {
			return err
		}
		if err = s.expect(':', "after a field's name"); err != nil {
			return err
		}
		which := field(name)
		if which != fieldOther && seen&(1<<which) != 0 {
			return fmt.Errorf("the field %s stands twice", name)
		}
		seen |= 1 << which
		if err = r.field(&s, which); err != nil {
			return err
		}
	}
	s.i++
	if s.peek() != 0 {
		return fmt.Errorf("found %q after the object; expected one JSON object a line", s.peek())
	}
	for i := fieldIndex; i <= fieldValue; i++ {
		if seen&(1<<i) == 0 {
			return fmt.Errorf("the field %q is missing; expected an object with %s", fieldNames[i], required)
		}
	}
	return nil
}

func (r *reader) field(s *scanner, which int) (err error) {
	e := &r.e
	keep := func(slot int) []byte {
		r.buf[slot], err = s.canon(r.buf[slot][:0], 1)
		return r.buf[slot]
	}
	wrong := func(got []byte, wanted string) error {
		if err != nil {
			return err
		}
		return fmt.Errorf("the field %q is %s; expected %s", fieldNames[which], clip(got), wanted)
	}
	switch which {
	case fieldIndex, fieldTime:
		text := keep(0)
		n, bad := strconv.ParseInt(string(text), 10, 64)
		if err != nil || bad != nil {
			return wrong(text, "a whole number of at most 64 bits")
		}
		if which == fieldIndex {
			e.index = n
		} else {
			e.time = n
		}
	case fieldType:
		text := keep(0)
		if e.typ = slices.Index(typeNames[:], unquoted(text)); e.typ < 0 || err != nil {
			return wrong(text, "invoke, ok, fail or info")
		}
	case fieldProcess:
		if e.process = keep(1); err != nil || e.process[0] != '"' && !isInteger(e.process) {
			return wrong(e.process, "a whole number or a name")
		}
	case fieldF:
		if e.f = keep(2); err != nil || e.f[0] != '"' {
			return wrong(e.f, "a name")
		}
	case fieldValue:
		if s.peek() == '[' {
			r.buf[3], err = s.array(r.buf[3][:0], 1, &e.ends)
			e.value = r.buf[3]
		} else {
			e.value = keep(3)
		}
	case fieldKey:
		e.key = keep(4)
	case fieldNode, fieldError:
		text := keep(which - fieldNode + 5)
		if err != nil || text[0] != '"' && string(text) != "null" {
			return wrong(text, "a text or null")
		}
		if which == fieldNode {
			e.node = text
		} else {
			e.err = text
		}
	case fieldExt:
		if c := s.peek(); c != '{' && c != 'n' && c != 0 {
			return wrong(s.b[s.i:], "an object or null")
		}
		return s.skip()
	default:
		return s.skip()
	}
	return err
}

// line adds one event.
func (r *reader) line(text []byte, number int32) error {
	if err := r.parse(text); err != nil {
		return err
	}
	e := &r.e
	if e.time < r.last {
		return fmt.Errorf("time %d is before the line above (%d); lines must be in order", e.time, r.last)
	}
	r.last = e.time
	if string(e.process) == `"nemesis"` {
		return nil
	}
	f, known := r.model.fs[unquoted(e.f)]
	if !known {
		return fmt.Errorf("f is %s; expected one of %s, which are the operations of the model %s",
			clip(e.f), strings.Join(r.model.names(), ", "), r.model.name)
	}
	process := r.id(e.process)
	at, open := r.open[process]
	if e.typ == typInvoke {
		if open {
			return fmt.Errorf("process %s invokes %s while its %s of line %d is open; a process does one thing at a time",
				e.process, e.f, r.model.nameOf(r.ops[at].f), r.ops[at].call)
		}
		return r.invoke(process, f, number)
	}
	if !open {
		return fmt.Errorf("process %s completes %s (%s) without an invocation", e.process, e.f, typeNames[e.typ])
	}
	o := &r.ops[at]
	if o.f != f {
		return fmt.Errorf("process %s completes %s but had invoked %s", e.process, e.f, r.model.nameOf(o.f))
	}
	if e.key != nil && r.id(e.key) != o.key {
		return fmt.Errorf("process %s completes %s on key %s but had invoked it on %s",
			e.process, e.f, clip(e.key), r.texts[o.key])
	}
	delete(r.open, process)
	o.complete, o.end, o.ret, o.typ = e.index, e.time, number, uint8(e.typ)
	if e.err != nil {
		o.err = r.id(e.err)
	}
	if e.typ == typOk && (f == fRead || r.model.results) {
		if r.model.sound != nil {
			if err := r.answer(o); err != nil {
				return err
			}
		}
		o.result = r.id(e.value)
	}
	return nil
}

// answer tells what is wrong with the value of a completion.
func (r *reader) answer(o *op) error {
	if err := r.model.sound(o.f, r.e.value, true); err != nil {
		return err
	}
	if o.f != fTxn {
		return nil
	}
	asked, _ := parseTxn([]byte(r.texts[o.value]), false)
	answered, err := parseTxn(r.e.value, true)
	if err != nil {
		return err
	}
	if !sameTxn(asked, answered) {
		return fmt.Errorf("the txn %s is answered by %s; expected the same steps", clip([]byte(r.texts[o.value])), clip(r.e.value))
	}
	return nil
}

func (r *reader) invoke(process int32, f fcode, number int32) error {
	e := &r.e
	o := op{invoke: e.index, start: e.time, call: number, ret: never, process: process, f: f}
	switch f {
	case fCas:
		if len(e.value) == 0 || e.value[0] != '[' || len(e.ends) != 2 {
			return fmt.Errorf("the value of a cas is %s; expected a pair [old, new]", clip(e.value))
		}
		o.value = r.id(e.value[1:e.ends[0]])
		o.next = r.id(e.value[e.ends[0]+1 : e.ends[1]])
	case fRead, fAcquire, fRelease:
	default:
		o.value = r.id(e.value)
	}
	if r.model.sound != nil {
		if err := r.model.sound(f, e.value, false); err != nil {
			return err
		}
	}
	if e.node != nil {
		o.node = r.id(e.node)
	}
	key := int32(idNull)
	if e.key != nil {
		key = r.id(e.key)
	}
	slot, known := r.slot[key]
	if !known {
		slot = len(r.keys)
		r.slot[key] = slot
		r.keys = append(r.keys, key)
		r.of = append(r.of, nil)
	}
	o.key = key
	at := int32(len(r.ops))
	r.ops = append(r.ops, o)
	r.of[slot] = append(r.of[slot], at)
	r.open[process] = at
	return nil
}

func unquoted(text []byte) string {
	if len(text) < 2 || text[0] != '"' {
		return ""
	}
	return string(text[1 : len(text)-1])
}

func isInteger(text []byte) bool {
	return len(text) > 0 && text[0] != '"' && !bytes.ContainsAny(text, ".e[{tfn")
}

// clip shortens what is shown of a line in a message.
func clip(text []byte) string {
	const most = 80
	if len(text) <= most {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:most]), "") + "..."
}
