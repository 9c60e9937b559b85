package main

import (
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
)

// Models. A register, a mutex and one with owners are one state machine with reads, writes and compare-and-sets over
// one value: acquire sets a mutex from free to held, or to its owner, and release back. All others are
// machines (machine.go).

type fcode uint8

const (
	fRead fcode = iota
	fWrite
	fCas
	fAcquire
	fRelease
	fTxn
)

type model struct {
	name    string
	initial int32
	fs      map[string]fcode
	// register: values are what the history says, so the prechecks and their sentences apply.
	register bool
	owners   bool // a mutex that only its holder can release
	results  bool // what ok operations other than reads return is part of the model
	// compile makes a machine and its items of a key's operations; nil for the register and its kin.
	compile func(h *history, m model, ops []int32) (machine, []item)
	// sound says why the value asked, or answered, is none of the model's.
	sound func(f fcode, value []byte, answered bool) error
	table *transitions
}

// The states of a mutex without owners; only compared with each other, never with a history's values.
const (
	free int32 = 0
	held int32 = 1
)

var models = []model{
	{name: "register", initial: idNull, register: true, fs: map[string]fcode{"read": fRead, "write": fWrite}},
	{name: "cas-register", initial: idNull, register: true,
		fs: map[string]fcode{"read": fRead, "write": fWrite, "cas": fCas}},
	{name: "mutex", initial: free, fs: map[string]fcode{"acquire": fAcquire, "release": fRelease}},
	{name: "owner-mutex", initial: free, owners: true, fs: map[string]fcode{"acquire": fAcquire, "release": fRelease}},
	{name: "fenced-mutex", results: true, compile: compileFences, sound: soundToken,
		fs: map[string]fcode{"acquire": fAcquire, "release": fRelease}},
	{name: "kv", results: true, compile: compileKeyValue, sound: soundEntry,
		fs: map[string]fcode{"txn": fTxn, "read": fRead}},
}

// modelByName is nil for a name that nobody knows.
func modelByName(name string) *model {
	for i := range models {
		if models[i].name == name {
			return &models[i]
		}
	}
	return nil
}

func modelNames() []string {
	var out []string
	for _, m := range models {
		out = append(out, m.name)
	}
	return out
}

func (m model) names() []string {
	var out []string
	for name := range m.fs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (m model) nameOf(f fcode) string {
	for name, code := range m.fs {
		if code == f {
			return name
		}
	}
	return "?"
}

// kind says how a normalised operation acts on the state.
type kind uint8

const (
	read  kind = iota // the state was want
	write             // the state becomes next
	cas               // the state was want and becomes next
	miss              // the state was not want: a cas that failed with "mismatch"
	// Of a machine, whose class of operations want is.
	act
	peek // an act that changes no state that it can take effect in
)

// item is an operation as the search sees it. A pending one has ret == never: it takes effect at
// any time from its call on, or not at all.
type item struct {
	kind       kind
	want, next int32
	call, ret  int32
	op         int32 // its place in history.ops
}

func (i item) pending() bool { return i.ret == never }

// mute tells whether an operation changes nothing, so that leaving it out only allows more.
func (i item) mute() bool { return i.kind == read || i.kind == miss || i.kind == peek }

// normalise drops what says nothing: failed operations, except mismatches, and reads without an answer.
func normalise(h *history, m model, ops []int32) []item {
	mismatch, hasMismatch := h.ids[`"mismatch"`]
	out := make([]item, 0, len(ops))
	for _, at := range ops {
		o := &h.ops[at]
		it := item{call: o.call, ret: o.ret, op: at}
		switch o.f {
		case fRead:
			it.kind, it.want, it.next = read, o.result, o.result
			if o.typ != typOk {
				continue
			}
		case fWrite:
			it.kind, it.next = write, o.value
		case fCas:
			it.kind, it.want, it.next = cas, o.value, o.next
		case fAcquire:
			it.kind, it.want, it.next = cas, free, held
			if m.owners {
				it.next = o.process
			}
		case fRelease:
			it.kind, it.want, it.next = cas, held, free
			if m.owners {
				it.want = o.process
			}
		}
		switch o.typ {
		case typFail:
			if o.f != fCas || !hasMismatch || o.err != mismatch {
				continue
			}
			it.kind = miss
		case typInvoke, typInfo:
			it.ret = never
		}
		out = append(out, it)
	}
	return out
}

// step is one item on Porcupine's terms. States are boxed once, here, and not at every step.
type step struct {
	place      int // of the item
	kind       kind
	pending    bool
	want, next any
}

// fresh is a state that no item wants.
const fresh int32 = math.MinInt32

// porcupineOps is the items as Porcupine takes them: intervals in lines.
func porcupineOps(items []item) []porcupine.Operation {
	boxes := map[int32]any{}
	box := func(v int32) any {
		b, ok := boxes[v]
		if !ok {
			b = v
			boxes[v] = b
		}
		return b
	}
	steps := make([]step, len(items))
	out := make([]porcupine.Operation, len(items))
	for i, it := range items {
		steps[i] = step{i, it.kind, it.pending(), box(it.want), box(it.next)}
		out[i] = porcupine.Operation{Input: &steps[i], Call: int64(it.call), Return: int64(it.ret)}
	}
	return out
}

// advanceMachine applies a step of a machine, where want is its class.
func advanceMachine(m machine) func(state any, s *step) (bool, any) {
	return func(state any, s *step) (bool, any) {
		next := m.step(state.(int32), s.want.(int32))
		if next == stuck {
			return s.pending, state
		}
		return true, next
	}
}

// advance applies a step. A pending cas always succeeds as an operation: where the state is not
// what it wants it changes nothing, which is how an operation that never happens is placed.
func advance(state any, s *step) (bool, any) {
	switch s.kind {
	case read:
		return state == s.want, state
	case write:
		return true, s.next
	case cas:
		if state == s.want {
			return true, s.next
		}
		return s.pending, state
	default:
		return state != s.want, state
	}
}
