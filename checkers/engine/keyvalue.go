package main

import (
	"encoding/binary"
	"fmt"
)

// The key-value map: transactions of reads, writes and compare-and-sets on the entries of one map, all of it
// or nothing, and reads of the whole map. An entry that is not there holds null.
//
// A window begins with an unknown map. That is one state here: each entry holds "anything" until something
// finds a value there, which is then what it had held. It allows all that any map would, and so a
// violation from there is one from any state.

// micro is one step of a transaction: 'r', 'w' or 'c', on an entry.
type micro struct {
	kind            byte
	sub, want, next string // canonical texts
	answered        bool   // of a read: want is known
}

// parseTxn takes a transaction apart: asked, and if answered, with what its reads saw.
func parseTxn(text []byte, answered bool) ([]micro, error) {
	steps, ok := elements(text, make([][]byte, 0, 8))
	if !ok {
		return nil, fmt.Errorf("the value of a txn is %s; expected a list of steps", clip(text))
	}
	out := make([]micro, 0, len(steps))
	wrong := func(step []byte) error {
		return fmt.Errorf(`a step of a txn is %s; expected ["r", entry, null], ["w", entry, value] or ["cas", entry, old, new]`, clip(step))
	}
	var room [4][]byte
	for _, step := range steps {
		parts, ok := elements(step, room[:0])
		if !ok || len(parts) < 3 {
			return nil, wrong(step)
		}
		m := micro{sub: string(parts[1])}
		switch kind := string(parts[0]); {
		case kind == `"r"` && len(parts) == 3:
			m.kind, m.want, m.answered = 'r', string(parts[2]), answered
			if !answered && m.want != "null" {
				return nil, wrong(step)
			}
		case kind == `"w"` && len(parts) == 3:
			m.kind, m.next = 'w', string(parts[2])
		case kind == `"cas"` && len(parts) == 4:
			m.kind, m.want, m.next = 'c', string(parts[2]), string(parts[3])
		default:
			return nil, wrong(step)
		}
		for _, other := range out {
			if other.sub == m.sub {
				return nil, fmt.Errorf("a txn names the entry %s twice; expected each once", m.sub)
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// soundEntry wants a transaction, or the map that a read returned.
func soundEntry(f fcode, value []byte, answered bool) error {
	var err error
	switch {
	case f == fTxn && !answered:
		_, err = parseTxn(value, false)
	case f == fRead && answered:
		_, err = members(value)
	}
	return err // the answer to a txn is held against what was asked, by the reader
}

// sameTxn tells whether an answer is one to what was asked.
func sameTxn(asked, answered []micro) bool {
	if len(asked) != len(answered) {
		return false
	}
	for n, a := range asked {
		b := answered[n]
		if a.kind != b.kind || a.sub != b.sub || a.next != b.next || a.kind == 'c' && a.want != b.want {
			return false
		}
	}
	return true
}

// elements appends the texts of the elements of a canonical array; false for what is no array.
func elements(text []byte, out [][]byte) ([][]byte, bool) {
	if len(text) < 2 || text[0] != '[' {
		return nil, false
	}
	depth, begin, quoted := 0, 1, false
	for n := 1; n < len(text); n++ {
		switch c := text[n]; {
		case quoted && c == '\\':
			n++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case depth > 0 && (c == ']' || c == '}'):
			depth--
		case depth == 0 && (c == ',' || c == ']'):
			if n > begin {
				out = append(out, text[begin:n])
			}
			begin = n + 1
		}
	}
	return out, true
}

// members are the canonical names and values of an object.
func members(text []byte) ([][2]string, error) {
	s := scanner{b: text}
	if s.peek() != '{' {
		return nil, fmt.Errorf("a read of a map returned %s; expected an object", clip(text))
	}
	s.i++
	var out [][2]string
	for s.peek() != '}' {
		if len(out) > 0 {
			s.i++ // the comma of a canonical text
		}
		name, err := s.str(nil)
		if err != nil {
			return nil, err
		}
		s.i++
		value, err := s.canon(nil, 1)
		if err != nil {
			return nil, err
		}
		out = append(out, [2]string{string(name), string(value)})
	}
	return out, nil
}

// keyValue is the machine of one map.
type keyValue struct {
	subs    map[string]int
	values  map[string]int32
	classes []kvClass
	seen    map[string]int32 // class by content
	states  interned
	stride  int
	scratch []byte
	start   int32
	unknown int32
}

type kvClass struct {
	steps []kvStep
	miss  bool // the whole did not happen, since some compare did not hold
	// of a read of the whole map: each entry's value, by number; nil for others
	whole []int32
	met   int32
}

type kvStep struct {
	kind       byte
	sub        int
	want, next int32
	known      bool
}

const anything int32 = -1 // the value of an entry of which nothing is known

func compileKeyValue(h *history, _ model, ops []int32) (machine, []item) {
	k := &keyValue{subs: map[string]int{}, values: map[string]int32{"null": 0}, seen: map[string]int32{}}
	mismatch, hasMismatch := h.ids[`"mismatch"`]
	type pair struct {
		at    int32
		steps []micro
		whole [][2]string
		miss  bool
	}
	var pairs []pair
	for _, at := range ops {
		o := &h.ops[at]
		p := pair{at: at}
		switch {
		case o.typ == typFail:
			if o.f != fTxn || !hasMismatch || o.err != mismatch {
				continue
			}
			p.miss = true
		case o.f == fRead && o.typ != typOk:
			continue
		}
		text := h.texts[o.value]
		if o.typ == typOk {
			text = h.texts[o.result]
		}
		if o.f == fRead {
			p.whole, _ = members([]byte(text)) // both were read once already, with the line at hand
		} else {
			p.steps, _ = parseTxn([]byte(text), o.typ == typOk)
		}
		for _, s := range p.steps {
			k.sub(s.sub)
		}
		for _, m := range p.whole {
			k.sub(m[0])
		}
		pairs = append(pairs, p)
	}
	k.stride = 4 * len(k.subs)
	k.scratch = make([]byte, k.stride)
	k.start = k.states.id(k.scratch)
	var items []item
	for _, p := range pairs {
		o := &h.ops[p.at]
		class, pure := k.class(p.steps, p.whole, o.f == fRead, p.miss)
		it := item{kind: act, want: class, next: class, call: o.call, ret: o.ret, op: p.at}
		if o.typ == typInfo || o.typ == typInvoke {
			it.ret = never
		}
		if pure {
			if it.kind = peek; it.pending() {
				continue
			}
		}
		items = append(items, it)
	}
	for n := 0; n < k.stride; n += 4 {
		put(k.scratch[n:], anything)
	}
	k.unknown = k.states.id(k.scratch)
	return k, k.relevant(items)
}

func (k *keyValue) sub(name string) int {
	n, known := k.subs[name]
	if !known {
		n = len(k.subs)
		k.subs[name] = n
	}
	return n
}

func (k *keyValue) value(text string) int32 {
	n, known := k.values[text]
	if !known {
		n = int32(len(k.values))
		k.values[text] = n
	}
	return n
}

// class numbers an operation by its content, and tells whether it preserves every state it is legal in.
func (k *keyValue) class(steps []micro, whole [][2]string, isRead, miss bool) (int32, bool) {
	c, pure := kvClass{miss: miss}, true
	var key []byte
	if miss {
		key = append(key, '!')
	}
	for _, s := range steps {
		step := kvStep{kind: s.kind, sub: k.sub(s.sub), want: k.value(s.want), next: k.value(s.next), known: s.kind == 'c' || s.answered}
		pure = pure && (miss || s.kind == 'r' || s.kind == 'c' && step.want == step.next)
		key = fmt.Appendf(key, "%c%d,%d,%d,%t;", s.kind, step.sub, step.want, step.next, step.known)
		if c.met += scoreSwap; !step.known {
			c.met += scorePut
		}
		c.steps = append(c.steps, step)
	}
	if isRead {
		c.whole = make([]int32, len(k.subs))
		for _, m := range whole {
			c.whole[k.sub(m[0])] = k.value(m[1])
		}
		key = fmt.Appendf(key, "=%v", c.whole)
	}
	n, known := k.seen[string(key)]
	if !known {
		n = int32(len(k.classes))
		k.seen[string(key)] = n
		k.classes = append(k.classes, c)
	}
	return n, pure
}

func put(b []byte, v int32) { binary.LittleEndian.PutUint32(b, uint32(v)) }

// valueOf is the value of an entry in a state's text.
func valueOf(state string, sub int) int32 {
	b := state[4*sub:]
	return int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
}

func (k *keyValue) step(state, class int32) int32 {
	now, c := k.states.texts[state], &k.classes[class]
	if c.miss {
		for _, s := range c.steps {
			if v := valueOf(now, s.sub); s.kind == 'c' && v != s.want {
				return state
			}
		}
		return stuck
	}
	next := append(k.scratch[:0], now...)
	meet := func(sub int, want int32) bool {
		v := valueOf(now, sub)
		if v == anything {
			put(next[4*sub:], want)
			return true
		}
		return v == want
	}
	for sub, want := range c.whole {
		if !meet(sub, want) {
			return stuck
		}
	}
	for _, s := range c.steps {
		if s.known && !meet(s.sub, s.want) {
			return stuck
		}
		if s.kind != 'r' {
			put(next[4*s.sub:], s.next)
		}
	}
	if string(next) == now {
		return state
	}
	return k.states.id(next)
}

func (k *keyValue) initial() int32     { return k.start }
func (k *keyValue) anyStates() []int32 { return []int32{k.unknown} }

func (k *keyValue) weight(class int32) int32 { return k.classes[class].met }

// relevant drops pending transactions that nothing asks for: no entry holds what they put there when a completed
// operation, or a pending one that is asked for, meets it. A mismatch may have met anything, so then all stay.
func (k *keyValue) relevant(items []item) []item {
	type entry struct {
		sub  int
		want int32
	}
	wanted := map[entry]bool{}
	want := func(c *kvClass) {
		for _, s := range c.steps {
			if s.known {
				wanted[entry{s.sub, s.want}] = true
			}
		}
		for sub, v := range c.whole {
			wanted[entry{sub, v}] = true
		}
	}
	for _, it := range items {
		c := &k.classes[it.want]
		if c.miss {
			return items
		}
		if !it.pending() {
			want(c)
		}
	}
	kept := make([]bool, len(items))
	for more := true; more; {
		more = false
		for n, it := range items {
			if kept[n] || !it.pending() {
				continue
			}
			c := &k.classes[it.want]
			for _, s := range c.steps {
				if s.kind != 'r' && wanted[entry{s.sub, s.next}] {
					kept[n], more = true, true
					want(c)
					break
				}
			}
		}
	}
	out := items[:0]
	for n, it := range items {
		if kept[n] || !it.pending() {
			out = append(out, it)
		}
	}
	return out
}
