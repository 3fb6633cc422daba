/* The copy of ONE record in Valkey, which answers when PostgreSQL is away (MemoryCache.records). A copy names the life of the
 * server in which it was written. A crash (RESTARTS) goes back to what the log had, at any earlier moment, and so may lose that
 * the copy was removed. Property: after a DELETE was answered, its copy is never served. Wrong on purpose: NOEPOCH. */
#define RESTARTS 2
byte epoch = 1, restarts = 0; bool copy = false, dCopy = false, gone = false; byte tag = 0, dTag = 0;
proctype Writer() { byte e;
    e = epoch;                                              /* as the connection knows it, perhaps of the life before */
    atomic { copy = true; tag = e };
    copy = false;                                           /* DEL */
    gone = true
}
proctype Valkey() {
end: do
    :: atomic { dCopy != copy || dTag != tag -> dCopy = copy; dTag = tag }
    :: atomic { restarts < RESTARTS -> restarts++; epoch++; copy = dCopy; tag = dTag }
    od
}
proctype Reader() { bool want; atomic { want = gone };
    atomic {
#ifdef NOEPOCH
      assert(!(want && copy))
#else
      assert(!(want && copy && tag == epoch))
#endif
    } }
init { atomic { run Writer(); run Valkey(); run Reader() } }
