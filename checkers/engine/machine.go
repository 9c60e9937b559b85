package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Machines: models that are no single register. A machine numbers the states of one key and the distinct
// operations on it, its classes, and says to which state a class leads from which. That is all that the frontier
// search, the windows and Porcupine need; none of them knows what a state means.

// stuck is where a class leads from a state in which it cannot take effect.
const stuck int32 = -1

type machine interface {
	// step is deterministic, and numbers states as it meets them.
	step(state, class int32) int32
	initial() int32
	// anyStates are states that together allow whatever some state allows; nil where there are none to be had.
	anyStates() []int32
	// weight says how promising it is that a class takes effect: what it met counts for it.
	weight(class int32) int32
}

// interned numbers states by their text.
type interned struct {
	number map[string]int32
	texts  []string
}

func (s *interned) id(text []byte) int32 {
	if n, known := s.number[string(text)]; known {
		return n
	}
	if s.number == nil {
		s.number = map[string]int32{}
	}
	own := string(text)
	n := int32(len(s.texts))
	s.number[own] = n
	s.texts = append(s.texts, own)
	return n
}

// fences is a mutex whose owner gets a token that is greater than every token before. A state is the holder and
// the last token; what is of unknown outcome got the least token there could be, which hinders nothing that a
// greater one would not.
type fences struct {
	h       *history
	classes []*op
	known   map[fence]int32
	states  []fence
}

type fence struct {
	holder int32
	last   int64
}

func compileFences(h *history, _ model, ops []int32) (machine, []item) {
	f := &fences{h: h, known: map[fence]int32{}}
	f.number(fence{holder: free, last: math.MinInt64})
	var items []item
	for _, at := range ops {
		o := &h.ops[at]
		if o.typ == typFail {
			continue
		}
		it := item{kind: act, want: int32(len(f.classes)), call: o.call, ret: o.ret, op: at}
		if o.typ != typOk {
			it.ret = never
		}
		it.next = it.want
		f.classes = append(f.classes, o)
		items = append(items, it)
	}
	return f, items
}

func (f *fences) number(s fence) int32 {
	n, known := f.known[s]
	if !known {
		n = int32(len(f.states))
		f.known[s] = n
		f.states = append(f.states, s)
	}
	return n
}

func (f *fences) step(state, class int32) int32 {
	s, o := f.states[state], f.classes[class]
	switch {
	case o.f == fRelease && s.holder == o.process:
		s.holder = free
	case o.f == fRelease || s.holder != free:
		return stuck
	case o.typ == typOk:
		token, err := tokenOf(f.h.texts[o.result])
		if err != nil || token <= s.last {
			return stuck
		}
		s = fence{o.process, token}
	default:
		s = fence{o.process, s.last + 1}
	}
	return f.number(s)
}

func (f *fences) initial() int32     { return 0 }
func (f *fences) anyStates() []int32 { return nil }
func (f *fences) weight(int32) int32 { return scoreSwap }

// tokenOf is the token that an acquire returned.
func tokenOf(text string) (int64, error) {
	token, err := strconv.ParseInt(text, 10, 64)
	if err != nil || token == math.MinInt64 || token == math.MaxInt64 {
		return 0, fmt.Errorf("an acquire returned %s; expected a token, a whole number of at most 64 bits", clip([]byte(text)))
	}
	return token, nil
}

// soundToken wants a token of an acquire that succeeded.
func soundToken(f fcode, value []byte, answered bool) error {
	if f != fAcquire || !answered {
		return nil
	}
	_, err := tokenOf(string(value))
	return err
}

// transitions is a model that was worked out beforehand, state by state: what `--table` names.
type transitions struct {
	Model   string    `json:"model"`
	Fs      []string  `json:"fs"`
	States  int32     `json:"states"`
	Initial int32     `json:"initial"`
	Ops     []tableOp `json:"ops"`
	Next    [][]int32 `json:"next"` // by op, by state; -1 where the op cannot take effect
	class   map[string]int32
	peeks   []bool
	weights []int32
}

// tableOp is one distinct operation: asked, and answered unless its outcome is unknown.
type tableOp struct {
	F      string          `json:"f"`
	Value  json.RawMessage `json:"value"`
	Result json.RawMessage `json:"result"`
	Known  bool            `json:"known"`
}

const (
	fTable     fcode = 16 // and those after it
	mostTableF       = 200
	mostAny          = 4096 // states that a window tries to begin from
)

// modelOf is the model of a table, as it stands in a file.
func modelOf(text []byte) (*model, error) {
	t := &transitions{class: map[string]int32{}}
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("the table is no JSON object of its kind: %w", err)
	}
	if len(t.Fs) == 0 || len(t.Fs) > mostTableF || t.States < 1 || t.Initial < 0 || t.Initial >= t.States || len(t.Ops) != len(t.Next) {
		return nil, errors.New("the table's fs, states, initial, ops and next do not go together")
	}
	for n, o := range t.Ops {
		key, err := o.key()
		if err != nil {
			return nil, fmt.Errorf("the table's operation %d: %w", n, err)
		}
		if _, twice := t.class[key]; twice || len(t.Next[n]) != int(t.States) {
			return nil, fmt.Errorf("the table's operation %d stands twice or does not lead from every state", n)
		}
		t.class[key] = int32(n)
		pure, legal := true, int32(0)
		for from, to := range t.Next[n] {
			if to < stuck || to >= t.States {
				return nil, fmt.Errorf("the table's operation %d leads to %d", n, to)
			}
			pure = pure && (to == stuck || to == int32(from))
			if to != stuck {
				legal++
			}
		}
		t.peeks = append(t.peeks, pure)
		if 2*legal <= t.States { // it needs its state, and counts for the order that has it
			t.weights = append(t.weights, scoreSwap)
		} else {
			t.weights = append(t.weights, scorePut)
		}
	}
	m := &model{name: t.Model, fs: map[string]fcode{}, results: true, table: t, compile: compileTable}
	for n, name := range t.Fs {
		m.fs[name] = fTable + fcode(n)
	}
	return m, nil
}

func (o *tableOp) key() (string, error) {
	value, err := canonText(o.Value)
	if err != nil {
		return "", err
	}
	result := "?"
	if o.Known {
		if result, err = canonText(o.Result); err != nil {
			return "", err
		}
	}
	return tableKey(o.F, value, result), nil
}

func tableKey(f, value, result string) string { return f + "\x00" + value + "\x00" + result }

func canonText(text []byte) (string, error) {
	if len(text) == 0 {
		return "null", nil
	}
	s := scanner{b: text}
	out, err := s.canon(nil, 1)
	return string(out), err
}

// classOf is -1 for an operation that is not in the table.
func (t *transitions) classOf(h *history, m model, o *op) int32 {
	result := "?"
	if o.typ == typOk {
		result = h.texts[o.result]
	}
	class, known := t.class[tableKey(m.nameOf(o.f), h.texts[o.value], result)]
	if !known {
		return stuck
	}
	return class
}

func compileTable(h *history, m model, ops []int32) (machine, []item) {
	var items []item
	for _, at := range ops {
		o := &h.ops[at]
		if o.typ == typFail {
			continue
		}
		class := m.table.classOf(h, m, o)
		it := item{kind: act, want: class, next: class, call: o.call, ret: o.ret, op: at}
		if o.typ != typOk {
			it.ret = never
		}
		if class != stuck && m.table.peeks[class] {
			if it.kind = peek; it.pending() {
				continue
			}
		}
		items = append(items, it)
	}
	return m.table, items
}

func (t *transitions) step(state, class int32) int32 {
	if class == stuck {
		return stuck
	}
	return t.Next[class][state]
}

func (t *transitions) initial() int32 { return t.Initial }

func (t *transitions) anyStates() []int32 {
	if t.States > mostAny {
		return nil
	}
	out := make([]int32, t.States)
	for n := range out {
		out[n] = int32(n)
	}
	return out
}

func (t *transitions) weight(class int32) int32 {
	if class == stuck {
		return 0
	}
	return t.weights[class]
}
