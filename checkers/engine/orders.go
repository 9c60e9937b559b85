package main

// taken is an operation that changed the state, in the tree of orders.
type taken struct {
	parent int32
	item   int32 // ^class of a pending operation
	event  int32
}

// orders is the tree of all orders that a search has tried, a path for each configuration. It only ever grows at its
// end and is cut there. It does so in chunks: copying a large one to a larger place costs more than all the rest.
type orders struct {
	first []taken // the first chunk, which grows with what is in it: most searches are small
	rest  [][]taken
	n     int
}

const ordersChunk = 1 << 15

func (o *orders) add(t taken) int32 {
	if o.n < ordersChunk {
		o.first = append(o.first[:o.n], t)
	} else {
		at := o.n/ordersChunk - 1
		if at == len(o.rest) {
			o.rest = append(o.rest, make([]taken, ordersChunk))
		}
		o.rest[at][o.n%ordersChunk] = t
	}
	o.n++
	return int32(o.n - 1)
}

func (o *orders) at(n int32) taken {
	if n < ordersChunk {
		return o.first[n]
	}
	return o.rest[n/ordersChunk-1][n%ordersChunk]
}

// cut forgets all but the first n.
func (o *orders) cut(n int) { o.n = n }

// path is the way from the root to n.
func (o *orders) path(n int32) []taken {
	length := 0
	for at := n; at >= 0; at = o.at(at).parent {
		length++
	}
	out := make([]taken, length)
	for at := n; at >= 0; at = o.at(at).parent {
		length--
		out[length] = o.at(at)
	}
	return out
}

func (o *orders) bytes() int64 { return 12 * int64(cap(o.first)+len(o.rest)*ordersChunk) }
