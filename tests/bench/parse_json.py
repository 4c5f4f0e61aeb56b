"""P4: parses a JSON text of RECORDS records, ROUNDS times. PYTHONMALLOC=malloc makes each object an allocation of its own.

  parse_json.py RECORDS ROUNDS    prints the number of records that the last round found
"""

import json
import sys


def text(records):
    return "[" + ",".join(
        f'{{"id": {number}, "name": "model {number % 97}:latest", "size": {number * 4096 + 0.5}, "tags": ["a{number}", "b", null],'
        f' "details": {{"family": "f{number % 7}", "quantization": "Q{number % 8}_K", "parameters": {number * 1e6}}}}}'
        for number in range(records)) + "]"


def main():
    records, rounds = int(sys.argv[1]), int(sys.argv[2])
    document = text(records)
    for _ in range(rounds):
        found = len(json.loads(document))
    print(found)


if __name__ == "__main__":
    main()
