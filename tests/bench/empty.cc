// The empty program: what remains is the start and the end of a process (P11).
int main() { return 0; }
