"""What the demo model says: a short, honest answer in the language it was asked in.

It quotes the question, counts the messages of the conversation and, asked for it, quotes the first one,
so that a person and a test can see that the session is remembered. Equal messages get an equal answer.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from demo.model.behaviour import Behaviour
from demo.model.protocol import Message, Token

#: Length of an answer that may choose, in tokens; the sentence that reaches it is finished.
NATURAL_TOKENS = (60, 80)

#: Longest quotation of a message, in characters.
EXCERPT_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """One language. `{quote}`, `{first}` and `{count}` stand for the messages, `stop_words` tell it apart."""

    spaced: bool = True
    stop_words: str = ""
    asks_first: str
    thought: str
    opening: str
    recall: str
    more: tuple[str, ...]


PHRASES = {
    "en": Phrases(
        stop_words="the a an is are of to and what how why you your i my do does did can please in me tell",
        asks_first=r"first (\w+ )?(say|said|ask|message|question|thing|wrote)|(say|said|ask|write) first",
        thought="The user writes “{quote}”. I should say what I am, count the messages ({count}), be brief.",
        opening="You wrote “{quote}”. I am Ekiden's demo model and no real language model, so I cannot truly "
        "answer that. Messages of this conversation that I have seen: {count}.",
        recall="The first thing you said was “{first}”.",
        more=(
            "My sentences come from a short list, in an order that your words decide.",
            "Reload the page while I am still writing, and the answer goes on where it stopped.",
            "Press Stop, and the connection to me is closed at once.",
            "With a provider's key in the settings, a real model takes my place.",
            "Ask the same thing in the same way, and you get the same answer, which is handy in a test.",
            "I write at about the pace of a person who reads along.",
        ),
    ),
    "ja": Phrases(
        spaced=False,
        asks_first=r"最初|はじめに|一番目|1つ目",
        thought="「{quote}」と書かれている。自分が何かを述べ、メッセージ数（{count}）を伝え、短くまとめよう。",
        opening="「{quote}」とのことですね。私は Ekiden のデモモデルです。"
        "本物の言語モデルではないため、本当の意味でお答えすることはできません。"
        "この会話でこれまでに見たメッセージは {count} 件です。",
        recall="最初のご発言は「{first}」でした。",
        more=(
            "私の文は短い一覧から選ばれ、順番はいただいた言葉で決まります。",
            "回答の途中でページを再読み込みしても、続きから表示されます。",
            "停止ボタンを押すと、私との接続はすぐに閉じられます。",
            "設定でプロバイダーのキーを入れると、本物のモデルが代わりに答えます。",
            "同じことを同じように尋ねれば同じ答えが返るので、テストに便利です。",
            "人が読み進めるくらいの速さで書いています。",
        ),
    ),
    "fr": Phrases(
        stop_words="le la les un une des est et que qui quoi comment pourquoi je tu vous mon dans pour avec",
        asks_first=r"premi[eè]re?|d'abord",
        thought="On m'écrit « {quote} ». Je dis ce que je suis, je compte les messages ({count}), sans plus.",
        opening="Vous avez écrit « {quote} ». Je suis le modèle de démonstration d'Ekiden, pas un vrai "
        "modèle de langage, et ne peux donc pas vraiment répondre. Messages que j'ai vus ici : {count}.",
        recall="Votre premier message était « {first} ».",
        more=(
            "Mes phrases viennent d'une courte liste, dans un ordre que vos mots décident.",
            "Rechargez la page pendant que j'écris : la réponse reprend là où elle s'est arrêtée.",
            "Appuyez sur Stop, et la connexion avec moi se ferme aussitôt.",
            "Avec la clé d'un fournisseur, un vrai modèle prend ma place.",
            "Posez la même question de la même façon, et vous aurez la même réponse.",
            "J'écris à peu près au rythme d'une personne qui lit.",
        ),
    ),
    "de": Phrases(
        stop_words="der die das ein eine ist und was wie warum ich du sie mein nicht mit für auf bitte kann",
        asks_first=r"\berste|zuerst|anfangs",
        thought="Da steht „{quote}“. Ich sage, was ich bin, zähle die Nachrichten ({count}), mehr nicht.",
        opening="Sie schrieben „{quote}“. Ich bin das Demo-Modell von Ekiden und kein echtes Sprachmodell, "
        "kann also nicht wirklich antworten. Nachrichten dieses Gesprächs, die ich gesehen habe: {count}.",
        recall="Ihre erste Nachricht war „{first}“.",
        more=(
            "Meine Sätze stammen aus einer kurzen Liste, und Ihre Worte bestimmen die Reihenfolge.",
            "Laden Sie die Seite neu, während ich schreibe: Die Antwort geht dort weiter, wo sie war.",
            "Drücken Sie auf Stopp, und die Verbindung zu mir wird sofort geschlossen.",
            "Mit dem Schlüssel eines Anbieters tritt ein echtes Modell an meine Stelle.",
            "Fragen Sie dasselbe auf dieselbe Weise, so bekommen Sie dieselbe Antwort.",
            "Ich schreibe etwa so schnell, wie man mitliest.",
        ),
    ),
    "es": Phrases(
        stop_words="el la los las un una es y que qué cómo por para yo tú usted mi con del está puedes cuál",
        asks_first=r"primer|al principio",
        thought="Me escriben «{quote}». Digo qué soy, cuento los mensajes ({count}) y termino pronto.",
        opening="Ha escrito «{quote}». Soy el modelo de demostración de Ekiden y no un modelo de lenguaje "
        "real, así que no puedo responder de verdad. Mensajes de esta conversación que he visto: {count}.",
        recall="Su primer mensaje fue «{first}».",
        more=(
            "Mis frases salen de una lista corta, en un orden que deciden sus palabras.",
            "Recargue la página mientras escribo: la respuesta sigue donde se quedó.",
            "Pulse Detener y la conexión conmigo se cierra al instante.",
            "Con la clave de un proveedor, un modelo real ocupa mi lugar.",
            "Pregunte lo mismo de la misma manera y tendrá la misma respuesta.",
            "Escribo más o menos al ritmo de quien va leyendo.",
        ),
    ),
    "zh": Phrases(
        spaced=False,
        asks_first=r"第一|最初|一开始",
        thought="用户写了“{quote}”。我要说明自己是什么，数一数消息（{count}），然后简短作答。",
        opening="您写的是“{quote}”。我是 Ekiden 的演示模型，不是真正的语言模型，所以无法真正回答。"
        "在这次对话中，我已经看到 {count} 条消息。",
        recall="您说的第一句话是“{first}”。",
        more=(
            "我的句子来自一份很短的清单，顺序由您的文字决定。",
            "在我书写时刷新页面，回答会从中断处继续。",
            "按下停止，与我的连接会立即关闭。",
            "填入服务商的密钥后，真正的模型会代替我回答。",
            "用同样的话问同样的事，就会得到同样的回答，便于测试。",
            "我书写的速度和人阅读的速度差不多。",
        ),
    ),
    "ko": Phrases(
        asks_first=r"처음|첫",
        thought="“{quote}”라고 적혀 있다. 내가 무엇인지 밝히고, 메시지 수({count})를 말하고, 짧게 끝내자.",
        opening="“{quote}”라고 쓰셨군요. 저는 Ekiden의 데모 모델이고 실제 언어 모델이 아니어서 제대로 답해 "
        "드릴 수 없습니다. 이 대화에서 제가 본 메시지: {count}개.",
        recall="처음 하신 말씀은 “{first}”였습니다.",
        more=(
            "제 문장은 짧은 목록에서 나오며, 순서는 보내신 글이 정합니다.",
            "제가 쓰는 동안 페이지를 새로 고쳐도 답변은 멈춘 곳에서 이어집니다.",
            "중지를 누르면 저와의 연결이 바로 닫힙니다.",
            "제공자의 키를 넣으면 실제 모델이 제 자리를 대신합니다.",
            "같은 것을 같은 말로 물으면 같은 답이 나오므로 테스트에 편리합니다.",
            "이 답변을 쓰는 데에는 열쇠도 인터넷도 전혀 필요하지 않습니다.",
            "사람이 따라 읽는 정도의 속도로 씁니다.",
        ),
    ),
}


def compose(messages: list[Message], behaviour: Behaviour) -> list[Token]:
    """Return the whole answer, reasoning first; joined, its tokens are the text."""
    asked = [message.text for message in messages if message.role == "user"] or [messages[-1].text]
    phrases = PHRASES[language_of(asked[-1])]
    dice = random.Random(_seed(messages))
    values = {
        "quote": _excerpt(asked[-1]),
        "first": _excerpt(asked[0]),
        "count": sum(message.role in ("user", "assistant") for message in messages),
    }
    tokens: list[Token] = []
    if behaviour.reasoning:
        thought = _split(phrases.thought.format_map(values), phrases, dice)
        tokens = [Token("reasoning", text) for text in thought]
    if behaviour.echo:
        words = _pieces(asked[-1], 5, dice)
    else:
        recalls = re.search(phrases.asks_first, asked[-1], re.IGNORECASE) is not None
        openings = [phrases.opening, phrases.recall] if recalls else [phrases.opening]
        begin = [opening.format_map(values) for opening in openings]
        words = _words(itertools.chain(begin, _more(phrases, dice)), phrases, behaviour, dice)
    return tokens + [Token("content", text) for text in words]


def language_of(text: str) -> str:
    """Guess one of `PHRASES`: by its script, else by its stop words, English when in doubt."""
    if re.search(r"[\u3040-\u30ff]", text):
        return "ja"
    if re.search(r"[\uac00-\ud7a3]", text):
        return "ko"
    if re.search(r"[\u4e00-\u9fff]", text):  # these characters are Chinese only; bare kanji count as Japanese
        return "zh" if re.search(r"[吗呢们这么你您说个没请谢为什]", text) else "ja"
    words = re.findall(r"\w+", text.lower())
    scores = {
        language: sum(word in phrases.stop_words.split() for word in words)
        for language, phrases in PHRASES.items()
        if phrases.stop_words
    }
    return max(scores, key=lambda language: (scores[language], language == "en"))


def _words(sentences: Iterator[str], phrases: Phrases, behaviour: Behaviour, dice: random.Random) -> list[str]:
    """Take sentences until the answer is long enough. A length that was asked for is kept exactly."""
    wanted = behaviour.length_tokens or dice.randint(*NATURAL_TOKENS)
    if behaviour.fault and behaviour.length_tokens is None:
        wanted = max(wanted, behaviour.fault.after_tokens + 1)  # or the fault would never be reached
    words: list[str] = []
    for sentence in sentences:
        space = " " if words and phrases.spaced else ""
        words += _split(space + sentence, phrases, dice)
        if len(words) >= wanted:
            break
    return words[: behaviour.length_tokens]


def _more(phrases: Phrases, dice: random.Random) -> Iterator[str]:
    """All sentences in random order, again and again; the later rounds are numbered, so no two are equal."""
    for round_number in itertools.count(1):
        for sentence in dice.sample(phrases.more, len(phrases.more)):
            yield sentence if round_number == 1 else f"({round_number}) {sentence}"


def _split(text: str, phrases: Phrases, dice: random.Random) -> list[str]:
    """Words with their leading space, or 1 to 3 characters where words are not spaced."""
    return re.findall(r"\s*\S+", text) if phrases.spaced else _pieces(text, 3, dice)


def _pieces(text: str, longest: int, dice: random.Random) -> list[str]:
    """Cut text into 1 to `longest` code points; unequal ones, as litellm ends a stream of equal chunks."""
    pieces = []
    start = 0
    while start < len(text):
        end = start + dice.randint(1, longest)
        pieces.append(text[start:end])
        start = end
    return pieces


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1].rstrip() + "…"


def _seed(messages: list[Message]) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.role}\0{message.text}\0".encode())
    return digest.digest()
